use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A ring as the store keeps it.
#[derive(Default)]
struct Ring(HashMap<i64, (i64, Step)>);

impl Ring {
    fn add(&mut self, range: MetricsRange, time: i64, sample: &Sample) {
        let place = Place::of(range, time);
        let (at, step) = self.0.entry(place.slot).or_default();
        if *at != place.at {
            (*at, *step) = (place.at, Step::default());
        }
        step.add(sample);
    }

    fn show(&self, range: MetricsRange, now: i64) -> Vec<Option<Step>> {
        window(range, now).map(|place| self.0.get(&place.slot).filter(|(at, _)| *at == place.at).map(|(_, step)| *step)).collect()
    }
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        0u32..200_000,
        0u64..1 << 44,
        prop::option::of((0u64..1 << 36, 0u64..1 << 36)),
        prop::option::of(0u32..200),
        prop::option::of(0u64..1 << 44),
    )
        .prop_map(|(cpu_millis, memory_bytes, network, players, disk_bytes)| Sample {
            cpu_millis,
            memory_bytes,
            network,
            players,
            disk_bytes,
        })
}

fn range() -> impl Strategy<Value = MetricsRange> {
    prop::sample::select(MetricsRange::ALL.as_slice())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// While the clock goes on, each point is the mean of exactly what was measured in its time.
    #[test]
    fn a_point_is_the_mean_of_its_time(
        range in range(),
        begin in -1_000_000_000i64..4_000_000_000,
        samples in prop::collection::vec((1i64..400, sample()), 1..400),
    ) {
        let (mut ring, mut time, mut taken) = (Ring::default(), begin, Vec::new());
        for (passed, sample) in samples {
            time += passed;
            ring.add(range, time, &sample);
            taken.push((time, sample));
        }
        let from = super::begin(range, time);
        let step = i64::from(range.step_seconds());
        prop_assert_eq!(from.rem_euclid(step), 0);
        let series = series(&ring.show(range, time), true);
        prop_assert_eq!(series.memory.len(), range.points() as usize);
        prop_assert!(series.memory.last().is_some_and(Option::is_some), "the newest is shown");
        for (index, memory) in (0i64..).zip(&series.memory) {
            let own: Vec<_> = taken.iter().filter(|(at, _)| (from + index * step..from + (index + 1) * step).contains(at)).collect();
            prop_assert_eq!(memory.is_some(), !own.is_empty());
            let Some(memory) = memory else { continue };
            let exact = own.iter().map(|(_, sample)| sample.memory_bytes as f64).sum::<f64>() / own.len() as f64;
            prop_assert!((*memory as f64 - exact).abs() <= 1.0, "{} is not {}", memory, exact);
            let received: Vec<_> = own.iter().filter_map(|(_, sample)| sample.network.map(|(received, _)| received as f64)).collect();
            let index = usize::try_from(index).expect("small");
            match series.rx[index] {
                Some(rx) => prop_assert!((rx as f64 - received.iter().sum::<f64>() / received.len() as f64).abs() <= 1.0),
                None => prop_assert!(received.is_empty()),
            }
        }
    }

    /// However the clock jumps: there are never more steps than points, the newest measurement is
    /// shown in its time, and every point is about measurements of its own time alone.
    #[test]
    fn a_clock_that_jumps_mixes_nothing(
        range in range(),
        jumps in prop::collection::vec((prop_oneof![4 => 1i64..60, 1 => -2_000_000i64..2_000_000], sample()), 1..300),
    ) {
        let (mut ring, mut time, mut taken) = (Ring::default(), 1_800_000_000i64, Vec::new());
        for (jump, sample) in jumps {
            time += jump;
            ring.add(range, time, &sample);
            taken.push((time, sample));
            prop_assert!(ring.0.len() <= range.points() as usize);
            prop_assert!(ring.show(range, time).last().is_some_and(Option::is_some));
        }
        let (from, step) = (super::begin(range, time), i64::from(range.step_seconds()));
        let series = series(&ring.show(range, time), false);
        for (index, players) in (0i64..).zip(&series.players) {
            let own = || taken.iter().filter(|(at, _)| (from + index * step..from + (index + 1) * step).contains(at)).map(|(_, sample)| sample);
            prop_assert!(players.is_none() || own().any(|sample| sample.players == *players));
            let index = usize::try_from(index).expect("small");
            if let Some(memory) = series.memory[index] {
                let (least, most) = (own().map(|s| s.memory_bytes).min(), own().map(|s| s.memory_bytes).max());
                prop_assert!(least.is_some_and(|least| least <= memory) && most.is_some_and(|most| memory <= most));
            }
        }
    }
}

#[test]
fn players_are_counted_at_their_most_and_nothing_is_not_zero() {
    let mut step = Step::default();
    step.add(&Sample { cpu_millis: 1500, players: None, ..Sample::default() });
    step.add(&Sample { cpu_millis: 1, players: Some(3), network: Some((10, 20)), ..Sample::default() });
    step.add(&Sample { cpu_millis: 0, players: Some(1), ..Sample::default() });
    let series = series(&[None, Some(step)], false);
    assert_eq!(series.players, [None, Some(3)]);
    assert_eq!(series.cpu, [None, Some(0.5)]);
    assert_eq!((series.rx, series.tx), (vec![None, Some(10)], vec![None, Some(20)]));
    assert_eq!(series.disk, []);
}
