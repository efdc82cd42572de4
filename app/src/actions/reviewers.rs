//! Who may say yes at a gate: by what the forge says of a person now, and by the names the gate lists.

use crate::actions::people::Person;
use crate::context::Context;
use crate::forge::people::{Account, Permission};
use crate::forge::{Forge, ForgeError, RepoFacts};
use crate::http::auth::Caller;
use crate::model::role::Role;
use pipelines_spec::plan::Approval;

/// Who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    /// Somebody the forge vouched for just now.
    Person(Person),
    /// A credential of ours: a token, or a session of the pages. It is nobody the forge knows, so it is no named reviewer.
    Credential {
        /// What its acts are recorded under.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl Decider {
    /// The credential of a request.
    pub fn of(caller: &Caller) -> Self {
        Self::Credential { name: caller.actor.clone(), role: caller.role }
    }

    /// What the decision is recorded under.
    pub fn name(&self) -> &str {
        match self {
            Self::Person(person) => &person.account().login,
            Self::Credential { name, .. } => name,
        }
    }

    /// What tells this decider from others: the forge's number, or the credential's name.
    pub fn key(&self) -> String {
        match self {
            Self::Person(person) => format!("id:{}", person.account().id),
            Self::Credential { name, .. } => format!("token:{name}"),
        }
    }

    /// Whether they may end a run, and so also keep one from going on.
    pub fn may_stop(&self) -> bool {
        match self {
            Self::Person(person) => person.may(Permission::Write),
            Self::Credential { role, .. } => *role >= Role::User,
        }
    }

    /// Whether they may write, or hold the admin role here.
    pub fn may_write(&self) -> bool {
        match self {
            Self::Person(person) => person.may(Permission::Write),
            Self::Credential { role, .. } => *role >= Role::Admin,
        }
    }
}

/// Whether somebody may say yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// They may.
    Yes,
    /// They may not: why, as a clause about them ("bob may not write in acme/app").
    No(String),
    /// The forge does not say: what went wrong.
    Unanswered(String),
}

/// Whether `by` may say yes to a gate with these rules (`None`: that of a stranger's run, which anyone who may write opens).
pub async fn standing(
    context: &Context,
    forge: Option<&Forge>,
    repo: &RepoFacts,
    by: &Decider,
    rules: Option<&Approval>,
) -> Standing {
    let lists: Vec<&[String]> = rules
        .map(|rules| [rules.reviewers.as_slice(), rules.policy_reviewers.as_slice()])
        .into_iter()
        .flatten()
        .filter(|names| !names.is_empty())
        .collect();
    let person = match by {
        Decider::Person(person) => person,
        Decider::Credential { name, .. } if !lists.is_empty() => {
            let why = format!("{name} is a credential of Rivet, and this gate names its reviewers: {}", all(&lists));
            return Standing::No(why);
        }
        Decider::Credential { role, .. } if *role >= Role::Admin => return Standing::Yes,
        Decider::Credential { name, .. } => return Standing::No(format!("{name} does not have the admin role")),
    };
    let login = &person.account().login;
    if !person.may(Permission::Write) {
        return Standing::No(format!("{login} may not write in {}", repo.full_name()));
    }
    for names in &lists {
        match is_one_of(context, forge, repo, person.account(), names).await {
            Ok(true) => {}
            Ok(false) => return Standing::No(format!("{login} is not a reviewer of this gate: {}", names.join(", "))),
            Err((team, error)) => return Standing::Unanswered(format!("whether {login} is of {team}: {error}")),
        }
    }
    Standing::Yes
}

fn all(lists: &[&[String]]) -> String {
    lists.concat().join(", ")
}

/// Whether `account` is one of `names`: logins, `@org/team`s, and groups of the settings.
async fn is_one_of(
    context: &Context,
    forge: Option<&Forge>,
    repo: &RepoFacts,
    account: &Account,
    names: &[String],
) -> Result<bool, (String, ForgeError)> {
    // A group's name hides a login of the same name: who runs the server decides, not who registers a name at the forge.
    let groups = &context.config.groups;
    let members: Vec<&String> = names
        .iter()
        .flat_map(|name| groups.get(name).map_or_else(|| vec![name], |members| members.iter().collect()))
        .collect();
    if members.iter().any(|name| name.eq_ignore_ascii_case(&account.login)) {
        return Ok(true);
    }
    let Some(forge) = forge else { return Ok(false) };
    for name in members {
        let Some((org, team)) = name.strip_prefix('@').and_then(|name| name.split_once('/')) else { continue };
        let asked = forge.is_team_member(repo, org, team, &account.login).await;
        if asked.map_err(|error| (name.clone(), error))? {
            return Ok(true);
        }
    }
    Ok(false)
}
