use super::*;

fn sign(inode: u64) -> Sign {
    Sign { size: 1, seconds: 1, nanos: 1, inode }
}

#[test]
fn what_becomes_of_a_file() {
    let (old, new, ours, theirs) = (sign(1), sign(2), sign(3), sign(4));
    let before = Entry { source: old, placed: ours };
    for (class, source, now, before, expected) in [
        (Class::Content, old, None, None, Act::Put),
        (Class::Own, old, None, Some(&before), Act::Put),
        // As we left it.
        (Class::Content, old, Some(ours), Some(&before), Act::Keep),
        (Class::Content, new, Some(ours), Some(&before), Act::Put),
        (Class::Own, new, Some(ours), Some(&before), Act::Put),
        // Changed by the server.
        (Class::Own, new, Some(theirs), Some(&before), Act::Leave),
        (Class::Content, old, Some(theirs), Some(&before), Act::Leave),
        (Class::Content, new, Some(theirs), Some(&before), Act::Put),
        // There before us.
        (Class::Own, new, Some(theirs), None, Act::Leave),
        (Class::Content, new, Some(theirs), None, Act::Put),
    ] {
        assert_eq!(decide(class, source, now, before), expected, "{class:?} {source:?} {now:?} {before:?}");
    }
}
