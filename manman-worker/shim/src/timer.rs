//! A timer on CLOCK_BOOTTIME that can be polled. A wait's own timeout stands still while the machine
//! sleeps; this one is due at once when it wakes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};

pub(crate) struct BootTimer {
    descriptor: OwnedFd,
}

impl BootTimer {
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Readable from that moment since boot on, until it is set anew; never for `None`.
    pub(crate) fn set(&self, moment: Option<Duration>) -> io::Result<()> {
        let value = match moment {
            // Zero would disarm it.
            Some(moment) => {
                let moment = moment.max(Duration::from_nanos(1));
                Timespec { tv_sec: i64::try_from(moment.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(moment.subsec_nanos()) }
            }
            None => Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl AsFd for BootTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
