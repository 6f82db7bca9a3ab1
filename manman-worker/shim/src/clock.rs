//! The only place that reads a clock.
#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Length of a time as [`Stamp`] writes it: `2026-11-20T12:00:00.123456789Z`.
pub const STAMP_LENGTH: usize = 30;

/// For timers: it stands still while the machine sleeps, and so does the game.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Since boot, sleep included.
#[must_use]
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall clock as RFC 3339 with nanoseconds in UTC.
#[must_use]
pub fn now() -> String {
    let mut stamp = Stamp::default();
    stamp.tick();
    String::from_utf8_lossy(stamp.text()).into_owned()
}

/// A time that is cheap to write anew for each read of a stream: the date is worked out once a second.
pub struct Stamp {
    second: i64,
    text: [u8; STAMP_LENGTH],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000000000Z" }
    }
}

impl Stamp {
    /// Takes the present time.
    pub fn tick(&mut self) {
        let now = clock_gettime(ClockId::Realtime);
        self.set(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0));
    }

    #[must_use]
    pub fn text(&self) -> &[u8; STAMP_LENGTH] {
        &self.text
    }

    fn set(&mut self, second: i64, nanos: u32) {
        if second != self.second {
            self.second = second;
            let (year, month, day) = civil(second.div_euclid(86_400));
            let within = u32::try_from(second.rem_euclid(86_400)).unwrap_or(0);
            digits(&mut self.text[0..4], year);
            digits(&mut self.text[5..7], month);
            digits(&mut self.text[8..10], day);
            digits(&mut self.text[11..13], within / 3600);
            digits(&mut self.text[14..16], within / 60 % 60);
            digits(&mut self.text[17..19], within % 60);
        }
        digits(&mut self.text[20..29], nanos);
    }
}

fn digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (u32, u32, u32) {
    // Years that begin in March put the leap day at their end; 400 of them are 146,097 days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (u32::try_from(year).unwrap_or(0), u32::try_from(month).unwrap_or(0), u32::try_from(day).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let mut stamp = Stamp::default();
        for (second, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 5, "2000-02-28T23:59:59.000000005Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000000Z"),
            (1_795_176_000, 123_456_789, "2026-11-20T12:00:00.123456789Z"),
            (4_107_542_400, 999_999_999, "2100-03-01T00:00:00.999999999Z"),
            (1_798_761_599, 0, "2026-12-31T23:59:59.000000000Z"),
        ] {
            stamp.set(second, nanos);
            assert_eq!(std::str::from_utf8(stamp.text()), Ok(text));
        }
    }
}
