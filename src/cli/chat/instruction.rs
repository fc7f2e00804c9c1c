//! What a line of input asks for.

use crate::cli::chat::input::address;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// A message.
    Talk(To, String),
    /// Something with a group.
    Order(Order),
    /// Which groups are known by name.
    Groups,
    /// What can be typed.
    Help,
}

/// Whom a message is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum To {
    Account(String),
    /// The id of a group, or a name until it is resolved.
    Group(String),
}

/// Something with a group. Where it names one: its id, or a name until it is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Create { name: String, members: Vec<String> },
    Join(String),
    Quit(String),
    Members(String),
    Detail(String),
}

/// What can be typed, a line each.
pub(super) const HELP: [&str; 9] = [
    "NAME text            sends the text to NAME, for example `bob hello`",
    "#GROUP text          sends it to a group: by id, or by name once it was shown here",
    "/create NAME a,b     makes a group of you, a and b; NAME is one word",
    "/join ID             joins a group",
    "/quit GROUP          leaves it",
    "/members GROUP       lists who is in it",
    "/detail GROUP        shows its name, owner and members",
    "/groups              lists the groups shown here so far",
    "/help                shows this; Ctrl-D leaves",
];

/// Reads a line. With `to` every line is a message as it stands, also one that looks like a command.
///
/// # Errors
/// What to type instead.
pub(super) fn parse(line: &str, to: Option<&str>) -> Result<Instruction, String> {
    if to.is_none() && line.trim_start().starts_with('/') {
        return command(line.trim());
    }
    let (to, text) = address(line, to).ok_or_else(|| {
        let to_group = line.trim_start().starts_with('#');
        let what = if to_group { "`#GROUP text`" } else { "`NAME text`, for example `bob hello`" };
        format!("write {what}; /help shows more")
    })?;
    let to = match to.strip_prefix('#') {
        Some("") => return Err("write the group's id or name right behind the #".to_owned()),
        Some(group) => To::Group(group.to_owned()),
        None => To::Account(to.to_owned()),
    };
    Ok(Instruction::Talk(to, text.to_owned()))
}

fn command(line: &str) -> Result<Instruction, String> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let first = words.next().map(str::to_owned);
    // `/join #fun` is what one types who has just typed `#fun hello`.
    let group = || first.as_deref().map(|group| group.strip_prefix('#').unwrap_or(group).to_owned());
    let group = || group().filter(|group| !group.is_empty());
    let order = match verb {
        "/create" => first.map(|name| {
            let members = words.by_ref().flat_map(|word| word.split(',')).filter(|member| !member.is_empty());
            Order::Create { name, members: members.map(str::to_owned).collect() }
        }),
        "/join" => group().map(Order::Join),
        "/quit" => group().map(Order::Quit),
        "/members" => group().map(Order::Members),
        "/detail" => group().map(Order::Detail),
        "/groups" => return Ok(Instruction::Groups),
        "/help" => return Ok(Instruction::Help),
        _ => return Err(format!("there is no {verb}; /help shows what there is")),
    };
    let example = if verb == "/create" { "NAME bob,carol" } else { "GROUP" };
    order
        .filter(|_| words.next().is_none())
        .map(Instruction::Order)
        .ok_or_else(|| format!("write `{verb} {example}`; /help shows more"))
}

impl Order {
    /// The command as it is typed.
    pub(super) const fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "/create",
            Self::Join(_) => "/join",
            Self::Quit(_) => "/quit",
            Self::Members(_) => "/members",
            Self::Detail(_) => "/detail",
        }
    }

    /// The group it is about; none for a new one.
    pub(super) const fn group(&self) -> Option<&String> {
        match self {
            Self::Create { .. } => None,
            Self::Join(group) | Self::Quit(group) | Self::Members(group) | Self::Detail(group) => Some(group),
        }
    }

    pub(super) const fn group_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Create { .. } => None,
            Self::Join(group) | Self::Quit(group) | Self::Members(group) | Self::Detail(group) => Some(group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(to: To, text: &str) -> Result<Instruction, String> {
        Ok(Instruction::Talk(to, text.to_owned()))
    }

    fn group(group: &str) -> To {
        To::Group(group.to_owned())
    }

    fn account(account: &str) -> To {
        To::Account(account.to_owned())
    }

    fn order(order: Order) -> Result<Instruction, String> {
        Ok(Instruction::Order(order))
    }

    #[test]
    fn lines_are_messages_to_accounts_and_groups() {
        assert_eq!(parse("bob hello you", None), talk(account("bob"), "hello you"));
        assert_eq!(parse(" #fun hello #all", None), talk(group("fun"), "hello #all"));
        // With --to every line is a message as it stands.
        assert_eq!(parse("/quit #fun", Some("bob")), talk(account("bob"), "/quit #fun"));
        assert_eq!(parse("#fun hello", Some("#team")), talk(group("team"), "#fun hello"));
    }

    #[test]
    fn lines_are_commands() {
        let members = vec!["bob".to_owned(), "carol".to_owned(), "dave".to_owned()];
        let create = || Order::Create { name: "fun".to_owned(), members: members.clone() };
        assert_eq!(parse("/create fun bob,carol,,dave", None), order(create()));
        assert_eq!(parse(" /create fun  bob, carol dave ", None), order(create()));
        let alone = Order::Create { name: "fun".to_owned(), members: Vec::new() };
        assert_eq!(parse("/create fun", None), order(alone));
        assert_eq!(parse("/join g1-0a", None), order(Order::Join("g1-0a".to_owned())));
        assert_eq!(parse("/quit #fun", None), order(Order::Quit("fun".to_owned())));
        assert_eq!(parse("/members fun", None), order(Order::Members("fun".to_owned())));
        assert_eq!(parse("/detail fun", None), order(Order::Detail("fun".to_owned())));
        assert_eq!(parse("/groups", None), Ok(Instruction::Groups));
        assert_eq!(parse("/help", None), Ok(Instruction::Help));
    }

    #[test]
    fn what_is_wrong_says_what_to_type() {
        for (line, says) in [
            ("bob", "`NAME text`"),
            ("#fun", "`#GROUP text`"),
            ("# hello", "right behind the #"),
            ("/create", "`/create NAME bob,carol`"),
            ("/join", "`/join GROUP`"),
            ("/join #", "`/join GROUP`"),
            ("/quit a b", "`/quit GROUP`"),
            ("/dance", "there is no /dance; /help"),
        ] {
            let error = parse(line, None).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn help_lists_every_command() {
        for verb in ["/create", "/join", "/quit", "/members", "/detail", "/groups", "/help"] {
            assert!(HELP.iter().any(|line| line.starts_with(verb)), "{verb}");
            assert!(!parse(verb, None).is_err_and(|error| error.contains("there is no")), "{verb}");
        }
    }
}
