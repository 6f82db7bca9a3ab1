//! Who speaks with which game: one at a time, over a connection that may be kept for the next line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manman_common::InstanceId;
use manman_common::spec::ConsoleAccess;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::{Collected, End, Fault, Patience, Protocol, RemoteError, Session};

/// Between the lines of somebody who types; a game with few places for consoles gets its own back.
const IDLE: Duration = Duration::from_secs(30);

/// The consoles of all games of this worker that are reached over the network.
#[derive(Clone, Default)]
pub(crate) struct Remotes {
    slots: Arc<Mutex<HashMap<InstanceId, Slot>>>,
}

type Slot = Arc<tokio::sync::Mutex<Kept>>;

#[derive(Default)]
struct Kept {
    session: Option<Session>,
    /// Counts uses, so that a late close leaves alone what was used meanwhile.
    uses: u64,
}

/// A conversation. No other begins with this game before it ends.
pub(crate) struct Talk {
    remotes: Remotes,
    instance: InstanceId,
    protocol: Protocol,
    access: ConsoleAccess,
    kept: OwnedMutexGuard<Kept>,
    session: Option<Session>,
}

impl Remotes {
    pub(crate) async fn open(
        &self,
        instance: InstanceId,
        protocol: Protocol,
        access: &ConsoleAccess,
        deadline: Instant,
    ) -> Result<Talk, RemoteError> {
        let error = |fault| RemoteError { console: protocol.name(), port: access.port, fault };
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(instance).or_default())
        };
        let mut kept = tokio::time::timeout_at(deadline, slot.lock_owned()).await.map_err(|_| error(Fault::Busy))?;
        let mut session = kept.session.take();
        if session.as_mut().is_none_or(|session| !session.stands()) {
            session = None;
        }
        let mut talk = Talk { remotes: self.clone(), instance, protocol, access: access.clone(), kept, session };
        talk.session = Some(talk.session(deadline).await?);
        Ok(talk)
    }
}

impl Talk {
    pub(crate) async fn say(&mut self, line: &str, patience: &Patience<'_>, into: &mut Collected) -> Result<End, RemoteError> {
        let max = self.protocol.line_max();
        if line.len() > max {
            return Err(self.error(Fault::TooLong { bytes: line.len(), max }));
        }
        // Taken out, so that a conversation that is broken off in the middle is never gone on with.
        let mut session = self.session(patience.deadline).await?;
        let end = session.say(line, patience, into).await.map_err(|fault| self.error(fault))?;
        if end.goes_on() {
            self.session = Some(session);
        }
        Ok(end)
    }

    /// Whether anybody is there, where a connection does not tell.
    pub(crate) async fn reach(&self) -> Result<(), RemoteError> {
        match &self.session {
            Some(session) => session.reach().await.map_err(|fault| self.error(fault)),
            None => Ok(()),
        }
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        super::secret(&self.access)
    }

    async fn session(&mut self, deadline: Instant) -> Result<Session, RemoteError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::open(self.protocol, &self.access, deadline).await.map_err(|fault| self.error(fault)),
        }
    }

    pub(crate) fn error(&self, fault: Fault) -> RemoteError {
        RemoteError { console: self.protocol.name(), port: self.access.port, fault }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.kept.uses += 1;
        let uses = self.kept.uses;
        self.kept.session = self.session.take().filter(|_| self.protocol.is_kept());
        let (remotes, instance) = (self.remotes.clone(), self.instance);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(IDLE).await;
            remotes.forget(instance, uses);
        });
    }
}

impl Remotes {
    /// Closes a connection that has not been used again. Whoever waits for it holds a copy, and one
    /// that is locked is in use: they come here themselves, later.
    fn forget(&self, instance: InstanceId, uses: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(&instance) else { return };
        let idle = Arc::strong_count(slot) == 1 && slot.try_lock().is_ok_and(|kept| kept.uses == uses);
        if idle {
            slots.remove(&instance);
        }
    }
}
