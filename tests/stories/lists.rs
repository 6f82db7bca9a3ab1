//! Many servers, and two who want the same port.

use std::collections::BTreeSet;

use manman_common::client::{ClientError, ListServers};
use manman_common::wire::{PageQuery, ServerView};
use manman_e2e::{Home, Result, ensure, free_port, story};
use serde_json::json;

#[test]
fn a_hundred_and_twenty_servers_page_without_gap_or_double() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let client = home.client()?;
        for number in 0..120 {
            let body = json!({"game_id": "docker:manman-e2e/printer", "name": format!("s{number}"), "desired": "stopped"});
            client.call::<ServerView>(reqwest::Method::POST, "/server", Some(&body)).await?;
        }
        for limit in [None, Some(7), Some(200)] {
            let mut seen = BTreeSet::new();
            let mut list = ListServers { page: PageQuery { limit, cursor: None }, ..ListServers::default() };
            loop {
                let page = client.server_list(&list).await?;
                ensure!(page.items.len() <= limit.unwrap_or(50) as usize, "a page of {}", page.items.len());
                for server in page.items {
                    ensure!(seen.insert(server.name.clone()), "{} twice", server.name);
                }
                match page.next {
                    Some(next) => list.page.cursor = Some(next),
                    None => break,
                }
            }
            ensure!(seen.len() == 120, "{} servers with limit {limit:?}", seen.len());
        }
        let none = client.server_list(&ListServers { game_id: Some("docker:other".to_owned()), ..ListServers::default() }).await?;
        ensure!(none.items.is_empty(), "a filter that filters nothing");
        Ok(())
    })
}

#[test]
fn of_two_racing_for_a_port_exactly_one_wins() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let client = home.client()?;
        let port = free_port()?;
        let ask = |name: String| {
            let client = client.clone();
            let body = json!({"game_id": "docker:manman-e2e/printer", "name": name, "desired": "stopped", "ports": [{"name": "game", "protocol": "udp", "port": port}]});
            async move { client.call::<ServerView>(reqwest::Method::POST, "/server", Some(&body)).await }
        };
        let racers: Vec<_> = (0..8).map(|n| tokio::spawn(ask(format!("racer{n}")))).collect();
        let (mut won, mut lost) = (0, 0);
        for racer in racers {
            match racer.await? {
                Ok(_) => won += 1,
                Err(ClientError::Refused(problem)) if problem.status == 409 => {
                    ensure!(problem.field.as_deref() == Some("ports[0].port"), "{problem:?}");
                    lost += 1;
                }
                Err(other) => return Err(other.into()),
            }
        }
        ensure!(won == 1 && lost == 7, "{won} won, {lost} lost");
        // Nothing of the losers is left.
        let all = client.server_list(&ListServers::default()).await?;
        ensure!(all.items.len() == 1, "{} servers", all.items.len());
        Ok(())
    })
}
