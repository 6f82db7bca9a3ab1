//! What may be other than it was, until it is looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use manman_common::wire::Event;
use manman_common::{ServerId, WorkerId};

/// What may be other than it was.
pub(super) struct Dirty {
    /// All of it.
    pub(super) all: bool,
    pub(super) servers: BTreeSet<ServerId>,
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) services: bool,
    pub(super) figures: bool,
    /// Events were missed: they are read from the table.
    pub(super) events_missed: bool,
    pub(super) events: Vec<Arc<Event>>,
}

impl Dirty {
    pub(super) const fn nothing() -> Self {
        Self {
            all: false,
            servers: BTreeSet::new(),
            workers: BTreeSet::new(),
            services: false,
            figures: false,
            events_missed: false,
            events: Vec::new(),
        }
    }

    pub(super) fn everything() -> Self {
        Self { all: true, services: true, figures: true, events_missed: true, ..Self::nothing() }
    }

    pub(super) fn is_nothing(&self) -> bool {
        !self.all
            && self.servers.is_empty()
            && self.workers.is_empty()
            && !self.services
            && !self.figures
            && !self.events_missed
            && self.events.is_empty()
    }

    pub(super) fn event(&mut self, event: Arc<Event>) {
        // Whoever records an event has changed what it names.
        self.servers.extend(event.server_id);
        self.workers.extend(event.worker_id);
        // Every worker follows another timeline than the host now.
        self.all |= event.kind == "host.regressed";
        self.events.push(event);
    }

    /// Puts back what could not be looked at.
    pub(super) fn again(&mut self, other: Self) {
        self.all |= other.all;
        self.services |= other.services;
        self.figures |= other.figures;
        self.events_missed |= other.events_missed || !other.events.is_empty();
        self.servers.extend(other.servers);
        self.workers.extend(other.workers);
    }
}
