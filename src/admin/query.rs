//! The query of a request: each name once, and none that is not known.

use std::collections::BTreeMap;

/// What a query says that has not been read yet.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(BTreeMap<String, String>);

/// Why a query is refused. The fault of whoever asks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// A value that is none.
    #[error("{name}: is {text:?}; allowed is {allowed}")]
    Value { name: String, text: String, allowed: String },
    /// It has to be there.
    #[error("{name}: is missing; allowed is {allowed}")]
    Missing { name: String, allowed: String },
    /// The second of a name.
    #[error("{0}: stands twice; allowed is once")]
    Twice(String),
    /// A name that means nothing here.
    #[error("{0}: is not known here")]
    Unknown(String),
}

impl Query {
    /// What stands behind the question mark of a request.
    ///
    /// # Errors
    /// [`QueryError::Twice`].
    pub(crate) fn parse_from(text: &str) -> Result<Self, QueryError> {
        let mut pairs = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if pairs.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(QueryError::Twice(name.into_owned()));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes a text out; none if it is not there, or empty.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|text| !text.is_empty())
    }

    /// Takes out a text that has to be there.
    ///
    /// # Errors
    /// [`QueryError::Missing`].
    pub(crate) fn require(&mut self, name: &str, allowed: &str) -> Result<String, QueryError> {
        let missing = || QueryError::Missing { name: name.to_owned(), allowed: allowed.to_owned() };
        self.take(name).ok_or_else(missing)
    }

    /// Takes a value out; none if it is not there.
    ///
    /// # Errors
    /// [`QueryError::Value`] says what is `allowed`.
    pub(crate) fn parse<T>(
        &mut self,
        name: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, QueryError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(QueryError::Value { name: name.to_owned(), text, allowed: allowed.to_owned() }),
        }
    }

    /// There must be nothing left.
    ///
    /// # Errors
    /// [`QueryError::Unknown`].
    pub(crate) fn finish(self) -> Result<(), QueryError> {
        match self.0.into_keys().next() {
            Some(name) => Err(QueryError::Unknown(name)),
            None => Ok(()),
        }
    }
}
