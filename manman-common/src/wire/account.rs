//! People: how they sign in, who they are, and which sessions they have.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::Scope;
use crate::{AccountId, Name, ServerId, Timestamp, TokenId};

/// Shortest password, in characters.
pub const PASSWORD_MIN: usize = 10;
/// Longest password, in bytes: more than anybody types, and little to hash.
pub const PASSWORD_MAX: usize = 256;

/// What a person may do: the scopes that people have, without those of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Everything.
    Admin,
    /// Run servers; not people, not workers.
    Operator,
    /// Look.
    Viewer,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    /// The role with the rights of a scope; machines have none.
    #[must_use]
    pub const fn of(scope: Scope) -> Option<Self> {
        match scope {
            Scope::Admin => Some(Self::Admin),
            Scope::Operator => Some(Self::Operator),
            Scope::Viewer => Some(Self::Viewer),
            Scope::Worker | Scope::Join => None,
        }
    }
}

impl From<Role> for Scope {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Operator => Self::Operator,
            Role::Viewer => Self::Viewer,
        }
    }
}

/// What a person typed to prove who they are. It is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Password(String);

impl Password {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(•••)")
    }
}

/// `POST /login`: the two ways to sign a browser in, besides a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "send {\"name\": …, \"password\": …} or {\"token\": …}")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SignIn {
    Password(PasswordSignIn),
    Token(TokenSignIn),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PasswordSignIn {
    /// The account's name, in any case of letters.
    pub name: String,
    pub password: Password,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenSignIn {
    /// A token of the scope admin, operator or viewer. The session ends with it.
    pub token: Password,
}

/// `GET /me`: whose session or token this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Me {
    /// The account's name, or the token's label.
    pub name: String,
    pub role: Role,
    /// Confined to this one server.
    pub server_id: Option<ServerId>,
    /// The session's own id, or the token's.
    pub session_id: TokenId,
    /// `null` where somebody came in by a token or by the first start's link.
    pub account_id: Option<AccountId>,
    pub has_password: bool,
    pub expires_at: Option<Timestamp>,
    pub host: MyHost,
}

/// The host, as everybody may see it who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MyHost {
    pub version: String,
    pub api_version: String,
    pub public_url: String,
    /// What a worker elsewhere is given as `--host`; `null` where the front door is open to this
    /// machine alone.
    pub join_url: Option<String>,
    /// Whether the host announces itself on the local network.
    pub mdns: bool,
}

/// `PUT /me/password`. All other sessions of the account end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangePassword {
    /// The one until now; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Password>,
    /// 10 characters at least.
    pub new: Password,
}

/// A browser that is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    pub id: TokenId,
    /// Whose it is: the account's name, or the label of the token that it came from.
    pub name: String,
    pub role: Role,
    pub account_id: Option<AccountId>,
    /// What the browser called itself when it signed in.
    pub user_agent: Option<String>,
    /// The address that it signed in from.
    pub peer: Option<String>,
    pub created_at: Timestamp,
    /// Within a minute.
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// An account, as admins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountView {
    pub id: AccountId,
    pub name: Name,
    pub role: Role,
    /// Confined to this one server.
    pub server_id: Option<ServerId>,
    pub has_password: bool,
    pub disabled: bool,
    pub created_at: Timestamp,
    /// When a session of it was last used, within a minute.
    pub last_seen_at: Option<Timestamp>,
}

/// `POST /account`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateAccount {
    /// Unique, without regard to case.
    pub name: Name,
    pub role: Role,
    /// Confines an operator or viewer to one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
    /// Without it the answer carries a link by which the person signs in and chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}

/// An account just made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedAccount {
    #[serde(flatten)]
    pub view: AccountView,
    /// For the person to open, once; only where no password was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_expires_at: Option<Timestamp>,
}

/// `PUT /account/{id}`: what is absent stays as it is. Whatever takes something away ends the
/// account's sessions, and with another role, server or `disabled` its tokens, too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutAccount {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// `null` frees the account from the one server.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<ServerId>))]
    pub server_id: Option<Option<ServerId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Tells `null` from what is absent.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let body = r#"{"name":"anna","password":"correct horse battery"}"#;
        let sign_in: SignIn = serde_json::from_str(body).expect("a body");
        assert!(matches!(&sign_in, SignIn::Password(typed) if typed.password.as_str() == "correct horse battery"));
        assert!(!format!("{sign_in:?}").contains("correct"));
        let by_token: SignIn = serde_json::from_str(r#"{"token":"mm_admin_secret"}"#).expect("a body");
        assert!(!format!("{by_token:?}").contains("secret"));
        for bad in ["{}", r#"{"name":"a"}"#, r#"{"name":"a","password":"b","token":"c"}"#, "[]"] {
            assert!(serde_json::from_str::<SignIn>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn null_frees_and_absence_keeps() {
        let put = |body: &str| serde_json::from_str::<PutAccount>(body).expect("a body").server_id;
        assert_eq!(put("{}"), None);
        assert_eq!(put(r#"{"server_id":null}"#), Some(None));
        assert!(put(r#"{"server_id":"01a1fb5d-a3f0-731d-86e7-8cea18ccd479"}"#).flatten().is_some());
    }
}
