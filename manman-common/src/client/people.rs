//! People: accounts, sessions, and who one is oneself.

use reqwest::Method;

use crate::client::{Client, ClientError, segment};
use crate::wire::{AccountView, CreateAccount, CreatedAccount, LoginLink, Me, Page, PageQuery, PutAccount, SessionView};

impl Client {
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.send(self.request(Method::GET, "/me")?).await
    }

    pub async fn account_list(&self, page: &PageQuery) -> Result<Page<AccountView>, ClientError> {
        self.send(self.request(Method::GET, "/account")?.query(page)).await
    }

    pub async fn account_create(&self, create: &CreateAccount) -> Result<CreatedAccount, ClientError> {
        self.send(self.request(Method::POST, "/account")?.json(create)).await
    }

    pub async fn account_change(&self, account: &str, change: &PutAccount) -> Result<AccountView, ClientError> {
        self.send(self.request(Method::PUT, &format!("/account/{}", segment(account)))?.json(change)).await
    }

    pub async fn account_login_link(&self, account: &str) -> Result<LoginLink, ClientError> {
        self.send(self.request(Method::POST, &format!("/account/{}/login-link", segment(account)))?).await
    }

    pub async fn account_delete(&self, account: &str) -> Result<(), ClientError> {
        self.exchange(self.request(Method::DELETE, &format!("/account/{}", segment(account)))?).await.map(drop)
    }

    /// The caller's own sessions, or everybody's.
    pub async fn session_list(&self, all: bool, page: &PageQuery) -> Result<Page<SessionView>, ClientError> {
        self.send(self.request(Method::GET, "/session")?.query(&[("all", all)]).query(page)).await
    }

    pub async fn session_revoke(&self, session: &str) -> Result<(), ClientError> {
        self.exchange(self.request(Method::DELETE, &format!("/session/{}", segment(session)))?).await.map(drop)
    }
}
