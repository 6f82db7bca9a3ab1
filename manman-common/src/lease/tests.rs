//! The rules, one by one, and any sequence of operations against a model that forgets nothing and
//! looks at everything.

use proptest::prelude::*;

use super::*;

type Table = Leases<String, u8, u8>;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Tick {
    Tick::from_micros(millis * 1000)
}

fn seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then_some(SECOND * seconds)
}

fn claim(holder: u8, term: u32) -> Claim<u8, u8> {
    Claim { holder, term: seconds(term), value: holder, by: By::Anyone, protect: false }
}

fn table() -> Table {
    Leases::new(10_000)
}

fn claims(table: &mut Table, now: Tick, key: &str, claim: Claim<u8, u8>) -> Outcome {
    table.claim(now, key.to_owned(), claim)
}

#[test]
fn a_refresh_keeps_the_recorded_term() {
    let mut table = table();
    assert_eq!(claims(&mut table, at(0), "a", claim(1, 60)), Outcome::Added);
    assert_eq!(claims(&mut table, at(30_000), "a", claim(1, 5)), Outcome::Refreshed);
    let lease = table.get(at(30_000), "a").expect("it is held");
    assert_eq!((lease.term, lease.remaining(at(30_000))), (seconds(60), seconds(60)));
}

#[test]
fn a_rival_waits_for_the_end_and_then_wins() {
    let mut table = table();
    claims(&mut table, at(0), "a", claim(1, 10));
    let before = table.get(at(9_999), "a").cloned();
    assert_eq!(claims(&mut table, at(9_999), "a", claim(2, 10)), Outcome::Ignored { retry_after: Some(Duration::from_millis(1)) });
    assert_eq!(table.get(at(9_999), "a").cloned(), before);
    assert_eq!(claims(&mut table, at(10_000), "a", claim(2, 10)), Outcome::Added);
}

#[test]
fn what_never_lapses_is_anybodys_unless_it_is_protected() {
    let mut table = table();
    claims(&mut table, at(0), "a", claim(1, 0));
    assert!(table.get(at(u64::from(u32::MAX)), "a").is_some());
    let protected = Claim { protect: true, ..claim(2, 0) };
    assert_eq!(claims(&mut table, at(1), "a", protected.clone()), Outcome::Ignored { retry_after: None });
    assert_eq!(claims(&mut table, at(1), "a", Claim { by: By::Owner, ..protected }), Outcome::Replaced);
    assert_eq!(claims(&mut table, at(1), "a", claim(3, 7)), Outcome::Replaced);
    assert_eq!(table.get(at(1), "a").map(|lease| (lease.holder, lease.term)), Some((3, seconds(7))));
}

#[test]
fn an_owner_moves_and_an_admin_takes() {
    let mut table = table();
    claims(&mut table, at(0), "a", claim(1, 60));
    assert_eq!(claims(&mut table, at(1), "a", Claim { by: By::Owner, ..claim(2, 5) }), Outcome::Moved);
    assert_eq!(table.get(at(1), "a").map(|lease| (lease.holder, lease.term, lease.value)), Some((2, seconds(60), 1)));
    assert_eq!(claims(&mut table, at(2), "a", Claim { by: By::Admin, ..claim(3, 5) }), Outcome::Replaced);
    assert_eq!(table.get(at(2), "a").map(|lease| (lease.holder, lease.term, lease.value)), Some((3, seconds(5), 3)));
}

#[test]
fn ten_thousand_end_at_their_own_moment() {
    let mut table = table();
    for n in 0..10_000_u32 {
        let term = Duration::from_millis(u64::from(1_000 + n));
        table.claim(at(0), format!("name-{n}"), Claim { term: Some(term), ..claim(1, 1) });
    }
    assert_eq!(table.claim(at(0), "one-more".to_owned(), claim(1, 1)), Outcome::Full);
    for n in (0..10_000_u32).step_by(97) {
        let deadline = u64::from(1_000 + n);
        let key = format!("name-{n}");
        assert!(table.get(at(deadline - 1), key.as_str()).is_some());
        assert!(table.get(at(deadline), key.as_str()).is_none(), "gone at its deadline, though nothing was swept");
        assert_eq!(table.iter(at(deadline)).count(), usize::try_from(10_000 - n - 1).expect("small"));
    }
    // Room is made by what has lapsed.
    assert_eq!(table.claim(at(1_000), "one-more".to_owned(), claim(1, 60)), Outcome::Added);
    assert_eq!(table.expire(at(10_999)).len(), 9_999);
    assert_eq!((table.len(), table.next_deadline()), (1, Some(at(61_000))));
}

#[test]
fn who_was_deaf_calls_nobody_dead() {
    let fill = |quiet: u32| {
        let mut table = table();
        for n in 0..6_u32 {
            let term = if n < quiet { 10 } else { 1_000 };
            claims(&mut table, at(0), &format!("n{n}"), claim(1, term));
        }
        table
    };
    // More than half lapse while nobody was heard: each has one more term, and no more than that.
    let mut most = fill(4);
    assert_eq!(most.hold(at(5_000), at(60_000)), 4);
    assert_eq!(most.iter(at(69_999)).count(), 6);
    assert_eq!(most.iter(at(70_000)).count(), 2);
    // Half of them is no more than may happen.
    let mut half = fill(3);
    assert_eq!(half.hold(at(5_000), at(60_000)), 0);
    assert_eq!(half.expire(at(60_000)).len(), 3);
    // Those had lapsed before.
    assert_eq!(fill(6).hold(at(10_000), at(60_000)), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Claim { key: u8, holder: u8, term: u32, by: By, protect: bool },
    Renew(u8),
    Remove(u8),
    Expire,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let by = prop_oneof![4 => Just(By::Anyone), 1 => Just(By::Owner), 1 => Just(By::Admin)];
    prop_oneof![
        6 => (0..5_u8, 0..3_u8, 0..6_u32, by, any::<bool>())
            .prop_map(|(key, holder, term, by, protect)| Op::Claim { key, holder, term, by, protect }),
        2 => (0..5_u8).prop_map(Op::Renew),
        1 => (0..5_u8).prop_map(Op::Remove),
        1 => Just(Op::Expire),
        4 => (0..3_000_u64).prop_map(Op::Wait),
    ]
}

/// The rules once more, in the plainest words: a list that is looked through.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    key: u8,
    holder: u8,
    term: u32,
    until: u64,
    value: u8,
}

#[derive(Default)]
struct Model(Vec<Record>);

impl Model {
    fn live(&mut self, now: u64, key: u8) -> Option<&mut Record> {
        self.0.retain(|record| record.term == 0 || record.until > now);
        self.0.iter_mut().find(|record| record.key == key)
    }

    fn claim(&mut self, now: u64, key: u8, claim: &Claim<u8, u8>, term: u32) -> Outcome {
        let fresh = Record { key, holder: claim.holder, term, until: now + u64::from(term) * 1000, value: claim.value };
        let Some(record) = self.live(now, key) else {
            if self.0.len() == 4 {
                return Outcome::Full;
            }
            self.0.push(fresh);
            return Outcome::Added;
        };
        let same = record.holder == claim.holder;
        if claim.by == By::Admin {
            *record = fresh;
            return Outcome::Replaced;
        }
        if record.term == 0 {
            if claim.protect && claim.by == By::Anyone && !same {
                return Outcome::Ignored { retry_after: None };
            }
            *record = fresh;
            return Outcome::Replaced;
        }
        if !same && claim.by == By::Anyone {
            return Outcome::Ignored { retry_after: Some(Duration::from_millis(record.until - now)) };
        }
        record.until = now + u64::from(record.term) * 1000;
        record.holder = claim.holder;
        if same { Outcome::Refreshed } else { Outcome::Moved }
    }
}

proptest! {
    #[test]
    fn any_sequence_is_as_the_model_has_it(ops in proptest::collection::vec(op(), 1..120)) {
        let mut table: Leases<String, u8, u8> = Leases::new(4);
        let mut model = Model::default();
        let mut now = 0;
        let mut serial = 0;
        for op in ops {
            match op {
                Op::Claim { key, holder, term, by, protect } => {
                    serial += 1;
                    let claim = Claim { holder, term: seconds(term), value: serial, by, protect };
                    let expected = model.claim(now, key, &claim, term);
                    prop_assert_eq!(table.claim(at(now), key.to_string(), claim), expected);
                }
                Op::Renew(key) => {
                    let record = model.live(now, key);
                    let there = record.is_some();
                    if let Some(record) = record {
                        record.until = now + u64::from(record.term) * 1000;
                    }
                    prop_assert_eq!(table.renew(at(now), key.to_string().as_str()), there);
                }
                Op::Remove(key) => {
                    let there = model.live(now, key).is_some();
                    model.0.retain(|record| record.key != key);
                    prop_assert_eq!(table.remove(at(now), key.to_string().as_str()).is_some(), there);
                }
                Op::Expire => {
                    for (_, lease) in table.expire(at(now)) {
                        prop_assert!(lease.deadline().is_some_and(|deadline| deadline <= at(now)));
                    }
                }
                Op::Wait(millis) => now += millis,
            }
            let _ = model.live(now, 0);
            let mut expected = model.0.clone();
            expected.sort_by_key(|record| record.key);
            let seen: Vec<Record> = table
                .iter(at(now))
                .map(|(key, lease)| {
                    let term = lease.term.map_or(0, |term| u32::try_from(term.as_secs()).expect("small"));
                    let left = lease.remaining(at(now)).map_or(0, |left| u64::try_from(left.as_millis()).expect("small"));
                    Record { key: key.parse().expect("a digit"), holder: lease.holder, term, until: now + left, value: lease.value }
                })
                .collect();
            for record in expected.iter_mut().filter(|record| record.term == 0) {
                record.until = now;
            }
            prop_assert_eq!(seen, expected);
            // Nothing is scheduled for nobody, and nobody is forgotten.
            let with_term = table.leases.values().filter(|lease| lease.term.is_some()).count();
            prop_assert_eq!(table.deadlines.len(), with_term);
            let earliest = table.leases.values().filter_map(|lease| lease.deadline()).min();
            prop_assert_eq!(table.next_deadline(), earliest);
        }
    }
}
