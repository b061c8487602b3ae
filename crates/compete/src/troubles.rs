//! Troubles that pass: each is told once, until it is over.

use std::collections::BTreeSet;
use std::fmt::Display;

use soma_codes::{Code, Coded};

use crate::error::CompeteError;
use crate::observer::{Level, Observer};

/// What the troubles that concern no single thing are told as.
const NETWORK: &str = "the network";
const MACHINE: &str = "this machine";

/// The troubles that were told and are not over.
#[derive(Debug, Default)]
pub(crate) struct Troubles(BTreeSet<(String, Code)>);

impl Troubles {
    /// Tells what is wrong with `place`, unless the same is known; the work continues.
    pub(crate) fn tell(&mut self, observer: &dyn Observer, place: &str, error: &impl Coded) {
        self.tell_as(observer, place, error.code(), error);
    }

    /// Like [`Self::tell`], of what is no error of a library.
    pub(crate) fn tell_as(
        &mut self,
        observer: &dyn Observer,
        place: &str,
        code: Code,
        what: &dyn Display,
    ) {
        if self.0.insert((place.to_owned(), code)) {
            let text = format!("{place}: {what}; trying again");
            observer.notice(Level::Warning, &text);
        }
    }

    /// Tells of a failure that stops everything for a while.
    pub(crate) fn tell_of_all(&mut self, observer: &dyn Observer, error: &CompeteError) {
        self.tell(observer, if error.is_local() { MACHINE } else { NETWORK }, error);
    }

    /// Nothing stops everything anymore.
    pub(crate) fn over_all(&mut self, observer: &dyn Observer) {
        self.over(observer, NETWORK);
        self.over(observer, MACHINE);
    }

    /// The troubles of `place` are over.
    pub(crate) fn over(&mut self, observer: &dyn Observer, place: &str) {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != place);
        if self.0.len() < before {
            observer.notice(Level::Info, &format_args!("{place}: all right again"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;
    use std::sync::Mutex;

    use super::Troubles;
    use crate::error::CompeteError;
    use crate::observer::{Advance, Level, Observer};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn start(&self, _: &str, _: Option<u64>) -> Advance {
            Box::new(|_| ())
        }

        fn notice(&self, _: Level, message: &dyn Display) {
            self.0.lock().unwrap().push(message.to_string());
        }
    }

    #[test]
    fn a_trouble_is_told_once_until_it_is_over() {
        let (heard, mut troubles) = (Heard::default(), Troubles::default());
        let error = CompeteError::NotRegistered;
        for _ in 0..3 {
            troubles.tell(&heard, "target 1", &error);
            troubles.tell(&heard, "target 1", &CompeteError::EmptyDomain);
        }
        assert_eq!(heard.0.lock().unwrap().len(), 2);
        troubles.over(&heard, "target 2");
        troubles.over(&heard, "target 1");
        troubles.over(&heard, "target 1");
        assert_eq!(heard.0.lock().unwrap().len(), 3);
        troubles.tell(&heard, "target 1", &error);
        assert_eq!(heard.0.lock().unwrap().len(), 4);
    }
}
