//! The chat's requests about groups, and the names it has learned.

use std::collections::VecDeque;

use gateway::wire::pb::{self, Status};
use gateway_client::{CallError, GroupNotice, Requests as _, ResilientClient};
use tokio::task::{JoinError, JoinSet};

use crate::cli::chat::events::Line;
use crate::cli::chat::instruction::Order;
use crate::cli::chat::notice::say;

/// Groups known by name; the oldest are forgotten first.
const MAX_KNOWN: usize = 1024;

/// Looks at groups under way at once: for more, a notice shows the id without a name.
const MAX_LOOKS: usize = 16;

/// Carries out orders, one at a time, so that the next line can use what the last one made; and looks at groups
/// of which only the id is known, beside that.
#[derive(Debug)]
pub(super) struct GroupTasks {
    client: ResilientClient,
    known: KnownGroups,
    tasks: JoinSet<FinishedTask>,
    /// One of `tasks` is an order; the others are looks.
    is_ordering: bool,
}

/// What became of a task.
#[derive(Debug)]
pub(super) struct FinishedTask {
    /// None for a look.
    order: Option<Order>,
    result: Result<TaskOutput, CallError>,
}

/// What a task found: a line to be shown, and the id and name of a group.
#[derive(Debug)]
struct TaskOutput {
    line: Line,
    name: Option<(String, String)>,
}

impl GroupTasks {
    pub(super) fn new(client: ResilientClient) -> Self {
        Self { client, known: KnownGroups::default(), tasks: JoinSet::new(), is_ordering: false }
    }

    /// The id of a group: a name that was shown stands for it, everything else for itself.
    ///
    /// # Errors
    /// What to type: the name stands for several.
    pub(super) fn resolve(&self, group: &str) -> Result<String, String> {
        self.known.resolve(group)
    }

    /// Whether the last order is still under way.
    pub(super) const fn is_ordering(&self) -> bool {
        self.is_ordering
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Sends an order.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); nothing is sent then.
    pub(super) fn order(&mut self, mut order: Order) -> Result<(), String> {
        if let Some(group) = order.group_mut() {
            *group = self.known.resolve(group)?;
        }
        self.is_ordering = true;
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let result = carry_out(&client, &order).await;
            FinishedTask { order: Some(order), result }
        });
        Ok(())
    }

    /// The end of what is under way; `None` when nothing is. Cancel safe.
    pub(super) async fn answer(&mut self) -> Option<Result<FinishedTask, JoinError>> {
        self.tasks.join_next().await
    }

    /// The line to be shown for what ended, and whether it went well.
    pub(super) fn take(&mut self, done: FinishedTask) -> (Line, bool) {
        self.is_ordering &= done.order.is_none();
        match done.result {
            Ok(found) => {
                if let Some((id, name)) = found.name {
                    self.known.learn(id, name);
                }
                (found.line, true)
            }
            Err(error) => {
                let line = Line::new("failed");
                let line = match &done.order {
                    Some(order) => {
                        let line = line.field("command", order.verb());
                        match order {
                            Order::Create { name, .. } => line.field("name", name),
                            Order::Join(id) | Order::Quit(id) | Order::Members(id) | Order::Detail(id) => {
                                line.field("group", id)
                            }
                        }
                    }
                    None => line,
                };
                if let Some(group) = done.order.as_ref().and_then(Order::group) {
                    self.explain(&error, group);
                }
                (line.error(&error), false)
            }
        }
    }

    /// Says how groups are named, where that may be why a request failed.
    pub(super) fn explain(&self, error: &CallError, group: &str) {
        let unknown = Status::NoDestination as i32;
        if matches!(error, CallError::Refused { status, .. } if *status == unknown) && !self.known.has(group)
        {
            say(&format!("{group} was not shown here as a group: use its id, or join it by its id first"));
        }
    }

    /// The line for a notice. What it says of a group that is new to this account is little, so that is looked at,
    /// and shown when it is there.
    pub(super) fn notice(&mut self, notice: GroupNotice, own_account: &str) -> Option<Line> {
        let changed = |event, group: &str, account: &str| {
            Line::new(event).field("group", group).field("account", account)
        };
        match notice {
            GroupNotice::Created(created) => {
                let line = Line::new("group").field("id", &created.group_id);
                self.look(created.group_id, line.field("members", created.members.join(",")))
            }
            GroupNotice::Joined(joined) if joined.account == own_account => {
                let line = changed("joined", &joined.group_id, &joined.account);
                self.look(joined.group_id, line)
            }
            GroupNotice::Joined(joined) => Some(changed("joined", &joined.group_id, &joined.account)),
            GroupNotice::Quit(quit) => Some(changed("quit", &quit.group_id, &quit.account)),
            _ => None,
        }
    }

    /// Looks at a group; what is shown if that fails. Returns it where it cannot even be tried.
    fn look(&mut self, group: String, otherwise: Line) -> Option<Line> {
        if self.tasks.len() >= MAX_LOOKS {
            return Some(otherwise);
        }
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let found = match client.group_detail(&group).await {
                Ok(detail) => described(&detail),
                Err(_) => TaskOutput { line: otherwise, name: None },
            };
            FinishedTask { order: None, result: Ok(found) }
        });
        None
    }

    /// A line for each group known by name.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.known.0.iter().map(|(id, name)| Line::new("group").field("id", id).field("name", name))
    }
}

async fn carry_out(client: &ResilientClient, order: &Order) -> Result<TaskOutput, CallError> {
    let own = &client.account().unwrap_or_default();
    let changed = |event, id: &str| Line::new(event).field("group", id).field("account", own);
    Ok(match order {
        Order::Create { name, members } => {
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let id = client.create_group(name, &members).await?;
            // It is made: whatever becomes of the look, its id must be shown.
            match client.group_detail(&id).await {
                Ok(detail) => described(&detail),
                Err(_) => {
                    let line = Line::new("group").field("id", &id).field("name", name).field("owner", own);
                    TaskOutput { line, name: Some((id, name.clone())) }
                }
            }
        }
        Order::Join(id) => {
            client.join_group(id).await?;
            let line = changed("joined", id);
            match client.group_detail(id).await {
                Ok(detail) => {
                    let line = line.field("name", &detail.name);
                    TaskOutput { line, name: Some((detail.id, detail.name)) }
                }
                Err(_) => TaskOutput { line, name: None },
            }
        }
        Order::Quit(id) => {
            client.quit_group(id).await?;
            TaskOutput { line: changed("quit", id), name: None }
        }
        Order::Members(id) => {
            let members = client.group_members(id).await?;
            let line = Line::new("members").field("group", id).field("count", members.len());
            TaskOutput { line: line.field("accounts", accounts(&members)), name: None }
        }
        Order::Detail(id) => described(&client.group_detail(id).await?),
    })
}

fn described(group: &pb::GroupGetResp) -> TaskOutput {
    let line = Line::new("group").field("id", &group.id).field("name", &group.name);
    let line = line.field("owner", &group.owner).field("members", accounts(&group.members));
    TaskOutput { line, name: Some((group.id.clone(), group.name.clone())) }
}

fn accounts(members: &[pb::Member]) -> String {
    members.iter().map(|member| member.account.as_str()).collect::<Vec<_>>().join(",")
}

/// Ids and names of groups, in the order in which they were learned.
#[derive(Debug, Default)]
struct KnownGroups(VecDeque<(String, String)>);

impl KnownGroups {
    fn learn(&mut self, id: String, name: String) {
        self.0.retain(|(known, _)| *known != id);
        if self.0.len() >= MAX_KNOWN {
            self.0.pop_front();
        }
        self.0.push_back((id, name));
    }

    fn has(&self, id: &str) -> bool {
        self.0.iter().any(|(known, _)| known == id)
    }

    fn resolve(&self, group: &str) -> Result<String, String> {
        if self.has(group) {
            return Ok(group.to_owned());
        }
        let ids: Vec<&str> =
            self.0.iter().filter(|(_, name)| name == group).map(|(id, _)| id.as_str()).collect();
        match ids[..] {
            [] => Ok(group.to_owned()),
            [id] => Ok(id.to_owned()),
            _ => Err(format!("there are several groups named {group}, use the id: {}", ids.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(groups: &[(&str, &str)]) -> KnownGroups {
        let mut known = KnownGroups::default();
        for (id, name) in groups {
            known.learn((*id).to_owned(), (*name).to_owned());
        }
        known
    }

    #[test]
    fn a_name_stands_for_its_group_unless_there_are_two() {
        let known = known(&[("g1", "fun"), ("g2", "work"), ("g3", "fun"), ("g4", "g1"), ("g2", "job")]);
        assert_eq!(known.resolve("job"), Ok("g2".to_owned()));
        assert_eq!(known.resolve("work"), Ok("work".to_owned()), "an old name");
        assert_eq!(known.resolve("g1"), Ok("g1".to_owned()), "an id comes before a name");
        assert_eq!(known.resolve("g9"), Ok("g9".to_owned()));
        let several = known.resolve("fun").unwrap_err();
        assert!(several.contains("g1, g3"), "{several}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = known(&[("first", "a")]);
        for number in 0..MAX_KNOWN {
            known.learn(number.to_string(), "b".to_owned());
        }
        assert_eq!((known.0.len(), known.has("first")), (MAX_KNOWN, false));
    }
}
