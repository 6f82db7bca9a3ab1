//! Pages, searches and times: whatever way one goes through a log, each line comes once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manman_common::logs::{LIMIT_MAX, LogGap};

use super::*;

fn at_second(second: u32, text: &str) -> OutputLine {
    line(LogStream::Stdout, second, text)
}

/// Everything that a query gives: numbers in the order in which they come, gaps, and the end.
async fn ask(log: &LogBook, query: LogQuery) -> (Vec<u64>, Vec<LogGap>) {
    drain(LogSession::open(log, &query).expect("it opens")).await
}

async fn drain(mut session: LogSession) -> (Vec<u64>, Vec<LogGap>) {
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match tokio::time::timeout(Duration::from_secs(20), session.next(64 * 1024)).await.expect("in time").expect("it reads") {
            LogItem::Chunk(chunk) => seqs.extend(records(&chunk).map(|record| record.seq.get())),
            LogItem::Gap(gap) => gaps.push(gap),
            LogItem::End(end) => {
                assert_eq!(end, LogEnd::Complete);
                return (seqs, gaps);
            }
        }
    }
}

fn seq(number: u64) -> Option<LogSeq> {
    Some(LogSeq::new(number))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Scrolled up, scrolled down, or searched in pages of any size: it is the log, line by line.
    #[test]
    fn pages_give_every_line_once(
        texts in prop::collection::vec("[ab]{0,40}", 1..120),
        limit in 1u64..40,
        segment_bytes in 100u64..3000,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let log = book(&dir, Retention { segment_bytes, ..Retention::default() });
        for text in &texts {
            log.append(&[out(text)]).expect("written");
        }
        let all: Vec<u64> = (1..=texts.len() as u64).collect();
        let hits: Vec<u64> = texts.iter().zip(1..).filter(|(text, _)| text.contains("ab")).map(|(_, seq)| seq).collect();
        block_on(async {
            let (mut up, mut before) = (Vec::new(), None);
            loop {
                let (page, gaps) = ask(&log, LogQuery { before_seq: before, limit: Some(limit), ..LogQuery::default() }).await;
                assert!(gaps.is_empty() && page.len() as u64 <= limit && page.is_sorted());
                let Some(oldest) = page.first() else { break };
                before = seq(*oldest);
                up.splice(0..0, page);
            }
            assert_eq!(up, all);
            let (mut down, mut since) = (Vec::new(), seq(0));
            loop {
                let (page, _) = ask(&log, LogQuery { since_seq: since, limit: Some(limit), ..LogQuery::default() }).await;
                let Some(newest) = page.last() else { break };
                since = seq(*newest);
                down.extend(page);
            }
            assert_eq!(down, all);
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let query = LogQuery { before_seq: before, limit: Some(limit), grep: Some("ab".to_owned()), ..LogQuery::default() };
                let (page, gaps) = ask(&log, query).await;
                assert!(gaps.is_empty() && page.len() as u64 <= limit);
                let Some(oldest) = page.last() else { break };
                before = seq(*oldest);
                found.extend(page);
            }
            found.reverse();
            assert_eq!(found, hits);
        });
    }

    /// Where times go up, a time leads to the first line that is not before it.
    #[test]
    fn a_time_leads_to_its_line(
        mut seconds in prop::collection::vec(0u32..3000, 1..80),
        asked in 0u32..3000,
        segment_bytes in 100u64..2000,
    ) {
        seconds.sort_unstable();
        let dir = tempfile::tempdir().expect("a directory");
        let log = book(&dir, Retention { segment_bytes, ..Retention::default() });
        for second in &seconds {
            log.append(&[at_second(*second, "x")]).expect("written");
        }
        let expected = seconds.partition_point(|second| *second < asked) as u64 + 1;
        let time = at_second(asked, "").time.parse().expect("a time");
        prop_assert_eq!(log.seq_at(time).expect("it is found").get(), expected);
        let lines = block_on(ask(&log, LogQuery { at: Some(time), limit: Some(3), ..LogQuery::default() })).0;
        prop_assert_eq!(lines, (expected..=seconds.len() as u64).take(3).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_window_has_both_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, small());
    for n in 0..40 {
        log.append(&[out(&format!("line {n}"))]).expect("written");
    }
    let query = LogQuery { since_seq: seq(10), until_seq: seq(14), ..LogQuery::default() };
    assert_eq!(ask(&log, query.clone()).await.0, [11, 12, 13, 14]);
    assert_eq!(ask(&log, LogQuery { limit: Some(2), ..query.clone() }).await.0, [11, 12]);
    assert_eq!(ask(&log, LogQuery { since_seq: None, limit: Some(2), ..query.clone() }).await.0, [13, 14]);
    assert_eq!(ask(&log, LogQuery { since_seq: seq(14), ..query.clone() }).await.0, [0u64; 0]);
    let found = LogQuery { grep: Some("LINE [0-9]*3$".to_owned()), ignore_case: true, limit: Some(2), ..LogQuery::default() };
    assert_eq!(ask(&log, found.clone()).await.0, [34, 24]);
    assert_eq!(ask(&log, LogQuery { since_seq: seq(0), ..found.clone() }).await.0, [4, 14]);
    assert_eq!(ask(&log, LogQuery { literal: true, ..found }).await.0, [0u64; 0]);
    let refused = |query: LogQuery| LogSession::open(&log, &query).err().and_then(|problem| problem.field).expect("it is refused");
    assert_eq!(refused(LogQuery { follow: Some(true), ..query.clone() }), "follow");
    assert_eq!(refused(LogQuery { limit: Some(LIMIT_MAX + 1), ..query.clone() }), "limit");
    assert_eq!(refused(LogQuery { limit: Some(0), ..query.clone() }), "limit");
    assert_eq!(refused(LogQuery { at: Some(clock::now()), ..query }), "at");
    assert_eq!(refused(LogQuery { literal: true, ..LogQuery::default() }), "literal");
}

#[tokio::test]
async fn a_search_without_time_says_what_it_has_not_looked_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention::default());
    let lines: Vec<_> = (0..2000).map(|n| out(&format!("{n:03000}"))).collect();
    for lines in lines.chunks(100) {
        log.append(lines).expect("written");
    }
    let query = LogQuery { limit: Some(5), grep: Some("nowhere".to_owned()), ..LogQuery::default() };
    let session = |query: &LogQuery| LogSession::open_within(&log, query, Duration::ZERO).expect("it opens");
    let (mut before, mut rounds) = (None, 0);
    loop {
        let (hits, gaps) = drain(session(&LogQuery { before_seq: before, ..query.clone() })).await;
        assert_eq!(hits, [0u64; 0]);
        rounds += 1;
        let Some(gap) = gaps.first() else { break };
        assert_eq!((gap.from_seq.get(), gap.to_seq.get()), (1, gap.count));
        before = Some(gap.to_seq.next());
    }
    assert!(rounds > 1, "six megabytes are more than one step");
    let (_, gaps) = drain(session(&LogQuery { since_seq: seq(10), ..query })).await;
    assert_eq!(gaps.first().map(|gap| gap.to_seq.get()), Some(2000), "forward it is what comes after");
}

#[tokio::test]
async fn a_long_search_lets_others_run_and_ends_when_nobody_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention::default());
    let lines: Vec<_> = (0..2000).map(|n| out(&format!("{n:0080}"))).collect();
    for _ in 0..50 {
        log.append(&lines).expect("written");
    }
    let ran = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&ran);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let query = LogQuery { limit: Some(5), grep: Some("nowhere".to_owned()), ..LogQuery::default() };
    let mut session = LogSession::open(&log, &query).expect("it opens");
    let began = ran.load(Ordering::Relaxed);
    // One poll begins the search; then nobody waits for it any more.
    assert!(tokio::time::timeout(Duration::ZERO, session.next(1 << 20)).await.is_err());
    assert!(session.next(1 << 20).await.is_err(), "it ends with whoever asked");
    assert_eq!(ask(&log, query).await, (Vec::new(), Vec::new()));
    assert!(ran.load(Ordering::Relaxed) > began + 100, "on one thread, the others had their turn");
    other.abort();
}

#[tokio::test]
async fn what_is_no_longer_kept_is_no_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, small());
    for n in 0..400 {
        log.append(&[out(&format!("line {n}"))]).expect("written");
    }
    let first = log.first_seq().get();
    assert!(first > 100);
    let (page, gaps) = ask(&log, LogQuery { before_seq: seq(50), limit: Some(10), ..LogQuery::default() }).await;
    assert_eq!((page, gaps), (Vec::new(), Vec::new()));
    let (page, gaps) = ask(&log, LogQuery { since_seq: seq(50), limit: Some(2), ..LogQuery::default() }).await;
    assert_eq!(page, [first, first + 1]);
    assert_eq!(gaps, [LogGap { from_seq: LogSeq::new(51), to_seq: LogSeq::new(first - 1), count: first - 51 }]);
    let (page, _) = ask(&log, LogQuery { since_seq: seq(first - 5), until_seq: seq(first - 2), ..LogQuery::default() }).await;
    assert_eq!(page, [0u64; 0]);
}

/// The search for a record once came out one too early where a probe hit a record's very first byte.
#[tokio::test]
async fn a_reader_that_comes_back_gets_no_line_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = book(&dir, Retention::default());
    for n in 0..300 {
        log.append(&[out(&"x".repeat(n % 60))]).expect("written");
    }
    for since in 0..300 {
        let (lines, _) = ask(&log, LogQuery { since_seq: seq(since), follow: Some(false), ..LogQuery::default() }).await;
        assert_eq!((lines.first(), lines.len() as u64), (Some(&(since + 1)), 300 - since));
    }
}
