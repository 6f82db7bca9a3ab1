//! From what a person typed to the one server or worker that is meant.
//!
//! The host knows ids and whole names. The beginning of either is enough for people, as long as only
//! one has it; where something would be destroyed, nothing is guessed.

use manman_common::client::{Client, ClientError, ListServers};
use manman_common::wire::{PAGE_MAX, Page, PageQuery, ServerView, WorkerView};
use manman_common::{Kind, Name};

use crate::commands::refused;
use crate::failure::Failure;

/// The most names that an error lists.
const SHOWN: usize = 10;

/// Bounds the pages that are read: 200,000 servers are more than any fleet here has.
const PAGES_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// A beginning that only one has is enough.
    Prefix,
    /// Only the whole name or id.
    Never,
}

pub(crate) async fn server(client: &Client, given: &str, guess: Guess) -> Result<ServerView, Failure> {
    match client.server_show(given).await {
        Ok(server) => Ok(server),
        Err(error) if is_absent(&error) => {
            let all = servers(client, &ListServers::default()).await?;
            choose(all, given, guess, "server", |server| (server.id.to_string(), &server.name))
        }
        Err(error) => Err(refused(format!("could not look up the server `{given}`"), error)),
    }
}

pub(crate) async fn worker(client: &Client, given: &str, guess: Guess) -> Result<WorkerView, Failure> {
    match client.worker_show(given).await {
        Ok(worker) => Ok(worker),
        Err(error) if is_absent(&error) => {
            let all = workers(client).await?;
            choose(all, given, guess, "worker", |worker| (worker.id.to_string(), &worker.name))
        }
        Err(error) => Err(refused(format!("could not look up the worker `{given}`"), error)),
    }
}

pub(crate) async fn servers(client: &Client, list: &ListServers) -> Result<Vec<ServerView>, Failure> {
    all_pages("could not list the servers", async |page| client.server_list(&ListServers { page, ..list.clone() }).await).await
}

pub(crate) async fn workers(client: &Client) -> Result<Vec<WorkerView>, Failure> {
    all_pages("could not list the workers", async |page| client.worker_list(&page).await).await
}

/// Every item of a list, page by page.
pub(crate) async fn all_pages<T>(tried: &str, fetch: impl AsyncFn(PageQuery) -> Result<Page<T>, ClientError>) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let page = fetch(PageQuery { limit: Some(PAGE_MAX), cursor }).await.map_err(|error| refused(tried, error))?;
        items.extend(page.items);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
    Err(Failure::new(tried).why(format!("there are more than {} of them", items.len())))
}

fn is_absent(error: &ClientError) -> bool {
    // A name with a slash or a space is refused as invalid; it is nobody's name either way.
    error.problem().is_some_and(|problem| matches!(problem.kind, Kind::NotFound | Kind::Invalid))
}

fn choose<T>(all: Vec<T>, given: &str, guess: Guess, what: &str, key: impl Fn(&T) -> (String, &Name)) -> Result<T, Failure> {
    let lower = given.to_ascii_lowercase();
    let begins = |item: &T| {
        let (id, name) = key(item);
        // Ids are UUIDs of version 7: the first characters are the time and tell nothing apart, so a
        // beginning of one must be long enough to mean something.
        name.as_str().to_ascii_lowercase().starts_with(&lower) || (lower.len() >= 8 && id.starts_with(&lower))
    };
    let names = |items: &[T]| {
        let mut names: Vec<String> = items.iter().take(SHOWN).map(|item| key(item).1.to_string()).collect();
        if items.len() > SHOWN {
            names.push(format!("{} more", items.len() - SHOWN));
        }
        names.join(", ")
    };
    let nobody = format!("there is no {what} `{given}`");
    if all.is_empty() {
        return Err(Failure::new(nobody).hint(format!("there are no {what}s at all yet")));
    }
    let (mut found, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|item| !given.is_empty() && begins(item));
    match (found.len(), guess) {
        (0, _) => Err(Failure::new(nobody).hint(format!("there are: {}", names(&others)))),
        (1, Guess::Prefix) => Ok(found.remove(0)),
        (1, Guess::Never) => {
            Err(Failure::new(nobody).hint(format!("write the whole name where something is destroyed; did you mean {}?", names(&found))))
        }
        (count, _) => {
            Err(Failure::new(format!("`{given}` could be {count} {what}s")).hint(format!("it begins the names of: {}", names(&found))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_from(names: &[&str], given: &str, guess: Guess) -> Result<String, Failure> {
        let all: Vec<(String, Name)> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (format!("0199f000-0000-7000-8000-{index:012}"), name.parse().expect("a good name")))
            .collect();
        choose(all, given, guess, "server", |(id, name)| (id.clone(), name)).map(|(_, name)| name.to_string())
    }

    #[test]
    fn a_beginning_is_enough_when_it_is_one() {
        assert_eq!(choose_from(&["oa", "teeworlds"], "tee", Guess::Prefix).expect("one"), "teeworlds");
        assert_eq!(choose_from(&["oa", "TeeWorlds"], "tee", Guess::Prefix).expect("one"), "TeeWorlds");
    }

    #[test]
    fn an_ambiguous_one_lists_the_candidates() {
        let failure = choose_from(&["oa-1", "oa-2", "tee"], "oa", Guess::Prefix).expect_err("two");
        assert_eq!(failure.message, "`oa` could be 2 servers");
        assert_eq!(failure.hint.as_deref(), Some("it begins the names of: oa-1, oa-2"));
    }

    #[test]
    fn nothing_is_guessed_where_something_is_destroyed() {
        let failure = choose_from(&["oa2"], "oa", Guess::Never).expect_err("not guessed");
        assert!(failure.hint.expect("a hint").contains("oa2"));
    }

    #[test]
    fn an_unknown_one_says_which_there_are() {
        let failure = choose_from(&["a", "b"], "zz", Guess::Prefix).expect_err("nobody");
        assert_eq!(failure.message, "there is no server `zz`");
        assert_eq!(failure.hint.as_deref(), Some("there are: a, b"));
        assert!(choose_from(&["a"], "", Guess::Prefix).is_err());
        // The time of an id's making is shared by many.
        assert!(choose_from(&["a"], "0199", Guess::Prefix).is_err());
        assert!(choose_from(&["a"], "0199f000-0000-7000-8000-000000000000", Guess::Prefix).is_ok());
    }
}
