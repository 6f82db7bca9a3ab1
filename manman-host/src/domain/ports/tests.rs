use proptest::prelude::*;

use super::*;

fn wish(name: &str, want: Want) -> PortWish {
    PortWish { name: name.to_owned(), protocols: vec![Protocol::Udp], want, container_port: None, index: None }
}

fn beside(name: &str, port: &str, offset: i32) -> PortWish {
    wish(name, Want::Beside { port: port.to_owned(), offset })
}

fn numbers(wishes: &[PortWish], taken: &[u16], range: (u16, u16)) -> Result<Vec<u16>, PortError> {
    let taken = taken.iter().map(|port| (Protocol::Udp, *port)).collect();
    allocate(wishes, &taken, range).map(|ports| ports.iter().map(|port| port.port).collect())
}

#[test]
fn the_default_first_and_then_the_next_that_is_free() {
    let game = [wish("game", Want::Near(27960))];
    assert_eq!(numbers(&game, &[], DEFAULT_RANGE), Ok(vec![27960]));
    assert_eq!(numbers(&game, &[27960, 27961], DEFAULT_RANGE), Ok(vec![27962]));
    assert_eq!(numbers(&game, &[10, 11], (10, 11)), Err(PortError::Exhausted { name: "game".to_owned() }));
    assert_eq!(numbers(&game, &[11], (10, 11)), Ok(vec![10]), "it goes round");
}

#[test]
fn neighbours_move_together() {
    let wishes = [wish("game", Want::Near(2456)), beside("query", "game", 1)];
    assert_eq!(numbers(&wishes, &[2457], DEFAULT_RANGE), Ok(vec![2458, 2459]));
    let fixed = [wish("game", Want::Exactly(2456)), beside("query", "game", 1)];
    assert!(matches!(numbers(&fixed, &[2457], DEFAULT_RANGE), Err(PortError::Taken { port: 2457, .. })));
}

#[test]
fn an_exact_port_is_that_one_or_none() {
    let exact = [PortWish { index: Some(3), ..wish("game", Want::Exactly(27960)) }];
    assert!(matches!(numbers(&exact, &[27960], DEFAULT_RANGE), Err(PortError::Taken { index: Some(3), .. })));
    assert!(matches!(numbers(&exact, &[], (30000, 30010)), Err(PortError::OutOfRange { port: 27960, .. })));
    let twice = [wish("a", Want::Exactly(5000)), wish("b", Want::Exactly(5000))];
    assert!(matches!(numbers(&twice, &[], DEFAULT_RANGE), Err(PortError::Twice { .. })));
}

#[test]
fn both_protocols_have_one_number() {
    let both = [PortWish { protocols: vec![Protocol::Udp, Protocol::Tcp], ..wish("game", Want::Near(5154)) }];
    let taken = BTreeSet::from([(Protocol::Tcp, 5154)]);
    let ports = allocate(&both, &taken, DEFAULT_RANGE).expect("a port is free");
    assert_eq!(ports.iter().map(|port| (port.protocol, port.port)).collect::<Vec<_>>(), [(Protocol::Udp, 5155), (Protocol::Tcp, 5155)]);
}

proptest! {
    /// Whatever is asked: what comes out is free, in range, without doubles, and keeps distances.
    #[test]
    fn what_is_given_fits(
        bases in proptest::collection::vec((any::<bool>(), 100_u16..140, proptest::option::of(-3_i32..4)), 1..5),
        taken in proptest::collection::btree_set(100_u16..140, 0..30),
        last in 110_u16..140,
    ) {
        let mut wishes = Vec::new();
        for (at, (exact, port, neighbour)) in bases.iter().enumerate() {
            let name = format!("p{at}");
            wishes.push(wish(&name, if *exact { Want::Exactly(*port) } else { Want::Near(*port) }));
            if let Some(offset) = neighbour {
                wishes.push(beside(&format!("q{at}"), &name, *offset));
            }
        }
        let taken: BTreeSet<Socket> = taken.into_iter().map(|port| (Protocol::Udp, port)).collect();
        if let Ok(ports) = allocate(&wishes, &taken, (100, last)) {
            prop_assert_eq!(ports.len(), wishes.len());
            let sockets: BTreeSet<Socket> = ports.iter().map(|port| (port.protocol, port.port)).collect();
            prop_assert_eq!(sockets.len(), ports.len());
            prop_assert!(sockets.is_disjoint(&taken));
            prop_assert!(ports.iter().all(|port| (100..=last).contains(&port.port)));
            for (wish, port) in wishes.iter().zip(&ports) {
                match &wish.want {
                    Want::Exactly(wanted) => prop_assert_eq!(*wanted, port.port),
                    Want::Near(_) => {}
                    Want::Beside { port: base, offset } => {
                        let base = ports.iter().find(|port| port.name == *base).expect("the base is there");
                        prop_assert_eq!(i32::from(port.port), i32::from(base.port) + offset);
                    }
                }
            }
        }
    }
}
