//! Lists in pages.

use serde::{Deserialize, Serialize};

/// One page of a list in a stable order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Hand it in as `cursor` to get the next page; `null` on the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page of what is made from each item.
    pub fn map<U>(self, make: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(make).collect(), next: self.next }
    }
}

/// The most items of one page.
pub const PAGE_MAX: u32 = 200;
/// The items of a page where nobody said how many.
pub const PAGE_DEFAULT: u32 = 50;

/// The paging part of a list's query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
