//! Who plays, read from the game's log: those who came less those who left. It begins with nobody at
//! each new instance, and is read again from the log by a worker that takes a game over.

use std::collections::BTreeMap;

use manman_common::spec::PlayersRule;
use regex::bytes::{Regex, RegexBuilder};

/// Size of a compiled expression.
const PATTERN_SIZE: usize = 1 << 20;

/// Longest name that is shown.
const NAME_MAX: usize = 64;

/// Names that are told; more than any game but the largest lets in.
pub(super) const NAMES_MAX: usize = 128;

/// Players that are counted. What a game prints may be whatever a player types, so it is bounded.
const PLAYERS_MAX: u32 = 10_000;

/// The group of the expressions that has the name.
const GROUP: &str = "player";

#[derive(Clone, Debug)]
pub(super) struct Rule {
    join: Regex,
    leave: Regex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Joined(String),
    Left(String),
}

impl Rule {
    pub(super) fn compile(rule: &PlayersRule) -> Result<Self, String> {
        let compile = |pattern: &str| {
            let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build().map_err(|error| error.to_string())?;
            let has_name = compiled.capture_names().any(|name| name == Some(GROUP));
            if has_name { Ok(compiled) } else { Err(format!("`{pattern}` has no group `{GROUP}`")) }
        };
        Ok(Self { join: compile(&rule.join)?, leave: compile(&rule.leave)? })
    }

    pub(super) fn read(&self, line: &[u8]) -> Option<Move> {
        let name = |pattern: &Regex| {
            let name = pattern.captures(line)?.name(GROUP)?;
            shown(&String::from_utf8_lossy(name.as_bytes()))
        };
        // Most lines are neither, and a search without groups is much the faster one.
        if self.join.is_match(line) {
            name(&self.join).map(Move::Joined)
        } else if self.leave.is_match(line) {
            name(&self.leave).map(Move::Left)
        } else {
            None
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Two may have one name.
    present: BTreeMap<String, u32>,
    online: u32,
}

impl Roster {
    /// Whether anything is different now.
    pub(super) fn take(&mut self, step: &Move) -> bool {
        match step {
            Move::Joined(_) if self.online >= PLAYERS_MAX => false,
            Move::Joined(name) => {
                *self.present.entry(name.clone()).or_default() += 1;
                self.online += 1;
                true
            }
            // Somebody of before the log begins, or who never was.
            Move::Left(name) => match self.present.get_mut(name) {
                None => false,
                Some(count) => {
                    *count -= 1;
                    if *count == 0 {
                        self.present.remove(name);
                    }
                    self.online -= 1;
                    true
                }
            },
        }
    }

    pub(super) fn online(&self) -> u32 {
        self.online
    }

    pub(super) fn names(&self) -> Vec<String> {
        let each = self.present.iter().flat_map(|(name, count)| std::iter::repeat_n(name, *count as usize));
        each.take(NAMES_MAX).cloned().collect()
    }
}

/// A player's name as it may be shown: nothing that moves a cursor, turns the direction of text or
/// takes no room, and not for ever. `None` if nothing is left of it.
pub(super) fn shown(name: &str) -> Option<String> {
    let visible = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let name: String = name.trim().chars().filter(visible).take(NAME_MAX).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The names that a query tells.
pub(super) fn shown_all<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    names.into_iter().filter_map(shown).take(NAMES_MAX).collect()
}

/// Lets so many through at once, and then one each [`REFILL`](Self::REFILL): a player who comes and
/// goes in a loop writes no history of it.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: tokio::time::Instant,
}

impl Allowance {
    const BURST: u32 = 30;
    const REFILL: std::time::Duration = std::time::Duration::from_secs(10);

    pub(super) fn new(now: tokio::time::Instant) -> Self {
        Self { left: Self::BURST, since: now }
    }

    pub(super) fn take(&mut self, now: tokio::time::Instant) -> bool {
        let grown = u32::try_from(now.duration_since(self.since).as_secs() / Self::REFILL.as_secs()).unwrap_or(u32::MAX);
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(Self::BURST);
            self.since += Self::REFILL * grown;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rule() -> Rule {
        let rule = PlayersRule {
            join: r"\[JOIN\] (?P<player>.+) joined the game$".to_owned(),
            leave: r"\[LEAVE\] (?P<player>.+) left the game$".to_owned(),
        };
        Rule::compile(&rule).expect("a rule")
    }

    #[test]
    fn who_came_and_has_not_left_is_there() {
        let (rule, mut roster) = (rule(), Roster::default());
        for line in [
            "2026 [JOIN] Ada joined the game",
            "2026 [JOIN] Bob joined the game",
            "2026 [JOIN] Bob joined the game",
            "2026 [CHAT] Ada: hello",
            "2026 [LEAVE] Nobody left the game",
            "2026 [LEAVE] Bob left the game",
        ] {
            if let Some(step) = rule.read(line.as_bytes()) {
                roster.take(&step);
            }
        }
        assert_eq!((roster.online(), roster.names()), (2, vec!["Ada".to_owned(), "Bob".to_owned()]));
    }

    #[test]
    fn a_rule_without_the_group_is_refused() {
        for (join, leave) in
            [("(.*) joined", "(?P<player>.*) left"), ("(?P<player>.*) joined", "("), ("(?P<player>a{1000}{1000}{1000})", "")]
        {
            assert!(Rule::compile(&PlayersRule { join: join.to_owned(), leave: leave.to_owned() }).is_err(), "{join}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(shown(" \u{1b}[31mEve\u{202e}\u{7}\n "), Some("[31mEve".to_owned()));
        assert_eq!(shown("\u{200b}\u{feff}"), None);
        assert_eq!(shown(&"ä".repeat(500)).map(|name| name.chars().count()), Some(NAME_MAX));
    }

    #[test]
    fn a_player_in_a_loop_is_told_so_often_and_no_more() {
        let now = tokio::time::Instant::now();
        let mut allowance = Allowance::new(now);
        assert_eq!((0..100).filter(|_| allowance.take(now)).count(), 30);
        assert_eq!((0..100).filter(|_| allowance.take(now + Duration::from_secs(25))).count(), 2);
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_names(steps in proptest::collection::vec((any::<bool>(), 0u8..6), 0..200)) {
            let mut roster = Roster::default();
            for (joins, who) in steps {
                let name = format!("p{who}");
                roster.take(&if joins { Move::Joined(name) } else { Move::Left(name) });
            }
            prop_assert_eq!(roster.online() as usize, roster.present.values().map(|count| *count as usize).sum::<usize>());
            prop_assert!(roster.names().len() <= NAMES_MAX);
        }

        #[test]
        fn no_line_does_harm(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Move::Joined(name) | Move::Left(name)) = rule().read(&line) {
                prop_assert!(!name.chars().any(char::is_control));
            }
        }
    }
}
