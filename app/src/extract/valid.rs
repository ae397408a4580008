use std::fmt::Write;
use std::ops::Deref;

use garde::Validate;

use super::{FromDelivery, unreadable};
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// As many broken rules are named in the reason.
const MOST: usize = 20;

/// An argument whose value keeps the rules of its type, as [garde](https://docs.rs/garde)'s attributes write them. Needs
/// the feature `garde`, and the crate `garde` with its feature `derive` for the attributes.
///
/// A message that breaks a rule goes to the dead letters at once, with each field and its reason. It would break the
/// rule again, so there is no second attempt. Context of rules is made by `Default`.
///
/// ```
/// use garde::Validate;
/// use hopmq_app::{Json, Valid};
///
/// #[derive(serde::Deserialize, Validate)]
/// struct Order {
///     #[garde(range(min = 1))]
///     id: u64,
///     #[garde(length(min = 1, max = 100))]
///     customer: String,
/// }
///
/// async fn on_order(Valid(Json(order)): Valid<Json<Order>>) {
///     println!("the order {} of {}", order.id, order.customer);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Valid<E>(pub E);

impl<E> Deref for Valid<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

impl<S, E> FromDelivery<S> for Valid<E>
where
    E: FromDelivery<S> + Deref<Target: Validate<Context: Default>>,
{
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        check(E::from_delivery(incoming, state)?)
    }

    fn from_delivery_if_present(incoming: &mut Incoming, state: &S) -> Result<Option<Self>, Verdict> {
        E::from_delivery_if_present(incoming, state)?.map(check).transpose()
    }
}

fn check<E: Deref<Target: Validate<Context: Default>>>(value: E) -> Result<Valid<E>, Verdict> {
    let Err(report) = value.deref().validate() else { return Ok(Valid(value)) };
    let mut text = String::from("the body breaks rules: ");
    let all = report.iter().count();
    for (index, (path, error)) in report.iter().take(MOST).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let path = if path.is_empty() { "the whole".to_owned() } else { path.to_string() };
        let _ = write!(text, "{separator}{path}: {error}");
    }
    if all > MOST {
        let _ = write!(text, "; and {} more", all - MOST);
    }
    Err(unreadable("invalid", text))
}
