//! Lists in pages, in the order of their ids.

use std::fmt::Display;
use std::str::FromStr;

use manman_common::Problem;
use manman_common::wire::{PAGE_DEFAULT, PAGE_MAX, Page};

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging<I> {
    /// The last item of the page before.
    pub(crate) after: Option<I>,
    limit: u32,
}

impl<I: FromStr + Display> Paging<I> {
    pub(crate) fn read(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")));
        }
        let after = cursor.map(str::parse).transpose().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"))?;
        Ok(Self { after, limit })
    }

    /// So many rows are fetched: one more than are shown tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(crate) fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> I) -> Page<T> {
        let more = items.len() > self.limit as usize;
        items.truncate(self.limit as usize);
        let next = if more { items.last().map(|item| id(item).to_string()) } else { None };
        Page { items, next }
    }
}
