//! How far a worker goes by its own and its host's word, and what a person is told of it.

use manman_common::session::Quarantine;
use manman_link::trust::Caution;
use manman_worker_core::Mode;

use crate::store::Meta;

/// What holds a worker back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub quarantine: Option<Quarantine>,
    /// The host went back in time, and nobody has confirmed its word.
    pub regressed: bool,
    pub frozen: bool,
    /// A person at this machine has said that nothing may start here.
    pub fenced: bool,
}

impl Standing {
    #[must_use]
    pub fn of(meta: &Meta) -> Self {
        let (quarantine, regressed) = match meta.trust.caution() {
            Caution::None => (None, false),
            Caution::Regressed => (None, true),
            Caution::Quarantined => (meta.trust.quarantine, meta.trust.foreign.is_some()),
        };
        Self { quarantine, regressed, frozen: meta.frozen, fenced: meta.fenced }
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        let held = self.frozen || self.fenced;
        match (self.quarantine, self.regressed, held) {
            // Neither stops, by the one, nor starts, by the other.
            (Some(_), ..) | (None, true, true) => Mode::Quarantined,
            (None, true, false) => Mode::Regressed,
            (None, false, true) => Mode::Frozen,
            (None, false, false) => Mode::Normal,
        }
    }

    /// Why the worker does not simply do as it is told, and what ends that.
    #[must_use]
    pub fn attention(&self, name: &str) -> Option<(String, String)> {
        let on_the_host = || format!("look at what would change, and confirm it: manman worker rebase {name}");
        let here = || "at this machine, while the worker does not run: manman-worker rebase --data DIR".to_owned();
        if let Some(cause) = self.quarantine {
            let text = format!("quarantined: {}; what runs is kept, and nothing is started or stopped", cause.explain());
            let hint = match cause {
                Quarantine::OtherMachine => format!("{}; or {}", on_the_host(), here()),
                Quarantine::OldToken | Quarantine::StateBehind | Quarantine::Rival => on_the_host(),
            };
            return Some((text, hint));
        }
        if self.fenced {
            return Some(("fenced at this machine: nothing starts here".to_owned(), here()));
        }
        self.regressed.then(|| {
            let text = "the host went back in time: what should run is started and kept, and nothing is stopped, deleted, installed anew \
                        or restarted on its word";
            (text.to_owned(), on_the_host())
        })
    }
}

#[cfg(test)]
mod tests {
    use manman_common::session::SessionTerms;
    use uuid::Uuid;

    use super::*;

    fn meta(change: impl FnOnce(&mut Meta)) -> Meta {
        let mut meta = Meta::default();
        change(&mut meta);
        meta
    }

    #[test]
    fn what_is_graver_wins() {
        let timeline = |n| SessionTerms { timeline: Some(Uuid::from_u128(n)), ..SessionTerms::default() };
        let regress = |meta: &mut Meta| {
            meta.trust.told(&timeline(1), true);
            meta.trust.told(&timeline(2), true);
        };
        let of = |change: &dyn Fn(&mut Meta)| Standing::of(&meta(change)).mode();
        assert_eq!(of(&|_| {}), Mode::Normal);
        assert_eq!(of(&|meta| meta.frozen = true), Mode::Frozen);
        assert_eq!(of(&|meta| meta.fenced = true), Mode::Frozen);
        assert_eq!(of(&regress), Mode::Regressed);
        let both = |meta: &mut Meta| {
            regress(meta);
            meta.frozen = true;
        };
        assert_eq!(of(&both), Mode::Quarantined);
        assert_eq!(of(&|meta| meta.trust.quarantine = Some(Quarantine::OldToken)), Mode::Quarantined);
    }

    #[test]
    fn a_person_is_told_why_and_what_to_do() {
        let standing = Standing::of(&meta(|meta| meta.trust.quarantine = Some(Quarantine::OldToken)));
        let (text, hint) = standing.attention("attic").expect("something is wrong");
        assert!(text.contains("restored from a backup") && hint.contains("manman worker rebase attic"), "{text}; {hint}");
        assert_eq!(Standing::default().attention("attic"), None);
    }
}
