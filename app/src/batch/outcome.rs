//! What batch handlers return.

use crate::flow::{Failure, Verdict};
use crate::outcome::{Classify, IntoVerdict};

/// What a handler says about a batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verdicts {
    /// The same about all messages.
    All(Verdict),
    /// One verdict a message, in the order of the batch.
    Each(Vec<Verdict>),
}

/// What a batch handler may return: an outcome for all messages, or a `Vec` with one each, in the order of the batch.
#[diagnostic::on_unimplemented(
    message = "a batch handler can't return `{Self}`",
    label = "not an outcome",
    note = "return what a handler of single messages may return, a `Vec` with one outcome a message, or a `Result` of \
            one of these whose error implements `hopmq_app::Classify`"
)]
pub trait IntoVerdicts {
    /// Says what happens with the messages.
    fn into_verdicts(self) -> Verdicts;
}

impl<T: IntoVerdict> IntoVerdicts for T {
    fn into_verdicts(self) -> Verdicts {
        Verdicts::All(self.into_verdict())
    }
}

impl IntoVerdicts for Verdicts {
    fn into_verdicts(self) -> Verdicts {
        self
    }
}

impl<T: IntoVerdict> IntoVerdicts for Vec<T> {
    fn into_verdicts(self) -> Verdicts {
        Verdicts::Each(self.into_iter().map(IntoVerdict::into_verdict).collect())
    }
}

impl<T: IntoVerdict, E: Classify> IntoVerdicts for Result<Vec<T>, E> {
    fn into_verdicts(self) -> Verdicts {
        match self {
            Ok(each) => each.into_verdicts(),
            Err(error) => Err::<(), E>(error).into_verdicts(),
        }
    }
}

impl Verdicts {
    /// Returns one verdict for each of `count` messages. If the handler returned another number, it is open which
    /// message each is about: all are tried again.
    pub(crate) fn each(self, count: usize) -> Vec<Verdict> {
        match self {
            Self::All(verdict) => vec![verdict; count],
            Self::Each(each) if each.len() == count => each,
            Self::Each(each) => {
                let text = format!(
                    "the batch handler returned {} outcomes for {count} messages: it must return one each, in the \
                     order of the batch",
                    each.len()
                );
                vec![Verdict::Retry(Failure::new("outcomes", text)); count]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ack, Reject};

    #[test]
    fn an_outcome_is_for_all_and_a_list_is_for_one_each() {
        assert_eq!(Ack.into_verdicts().each(2), [Verdict::Ack, Verdict::Ack]);
        let each = Ok::<_, String>(vec![Ack.into_verdict(), Reject::because("no").into_verdict()]);
        assert_eq!(each.into_verdicts().each(2)[0], Verdict::Ack);
        let failed = Err::<Vec<Verdict>, _>("down".to_owned()).into_verdicts().each(3);
        assert!(failed.iter().all(|verdict| verdict.name() == "retry") && failed.len() == 3);
    }

    #[test]
    fn a_list_of_another_length_is_a_failure_of_all() {
        let all = vec![Ack].into_verdicts().each(2);
        assert!(all[1].failure().unwrap().text().contains("1 outcomes for 2 messages"), "{all:?}");
    }
}
