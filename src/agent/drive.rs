//! The queue of actions. Whoever performs them, in the product or in a test, performs them in this order.

use super::{Action, Agent, Event};
use std::collections::VecDeque;
use std::time::Instant;

/// Where the agent's actions have an effect.
pub trait Performer {
    /// The agent that decides.
    fn agent(&mut self) -> &mut Agent;

    /// The time.
    fn now(&self) -> Instant;

    /// Does one thing; what came of it where somebody asked.
    fn perform(&mut self, action: Action) -> Option<Event>;

    /// What came while it was done and can't wait until all is: [`Event::Working`], [`Event::StatusRequested`] and
    /// [`Event::Sigterm`].
    fn urgent(&mut self) -> Vec<Event>;
}

/// Tells the agent of an event and does all that follows. What an action results in is dealt with before the next one is
/// done. Returns the exit status once the agent has ended.
pub fn drive(performer: &mut impl Performer, event: Event) -> Option<u8> {
    let mut queue = VecDeque::new();
    tell(performer, event, &mut queue);
    while let Some(action) = queue.pop_front() {
        if let Action::Exit(status) = action {
            return Some(status);
        }
        // Not after an answer: clients that keep asking would keep the work from going on.
        let may_have_taken_long = !matches!(action, Action::AnswerStatus(..));
        if let Some(event) = performer.perform(action) {
            tell(performer, event, &mut queue);
        }
        if may_have_taken_long {
            performer.urgent().into_iter().for_each(|event| tell(performer, event, &mut queue));
        }
    }
    None
}

/// What follows from the event is done before what was to be done. A stop leaves of that what others wait for, and comes
/// after it: nothing is written for the stop to remove again, and nothing is lost for the next start.
fn tell(performer: &mut impl Performer, event: Event, queue: &mut VecDeque<Action>) {
    let now = performer.now();
    let agent = performer.agent();
    let was_ending = agent.is_ending();
    let follow = agent.handle(event, now);
    if !was_ending && agent.is_ending() {
        queue.retain(Action::survives_a_stop);
        queue.extend(follow);
    } else {
        follow.into_iter().rev().for_each(|action| queue.push_front(action));
    }
}
