//! How a damaged part gets from the decoder back to delivery, to be downloaded and delivered again within
//! its remaining retry budget.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::fetch::RetryPolicy;
use crate::fetch::retry::Retry;
use crate::http::error_chain;

/// The retry budget that a part has used. It travels with the part, in case that has to be downloaded again.
#[derive(Debug)]
pub(super) struct RetryState {
    pub retry: Retry,
    /// The most bytes that any attempt reached.
    pub furthest_bytes: u64,
}

impl RetryState {
    /// Returns the state of a part that has not been attempted yet.
    pub(super) fn fresh(policy: RetryPolicy) -> Self {
        Self { retry: policy.start(), furthest_bytes: 0 }
    }
}

/// What is wrong with a part whose download had completed.
#[derive(Debug)]
pub(super) struct Damage {
    pub reason: String,
    /// Size of the part.
    pub bytes: u64,
    /// Time that the part spent in the queue before it was opened.
    pub waited: Duration,
}

/// A damaged part on its way back to delivery.
#[derive(Debug)]
pub(super) struct ReturnedPart {
    pub index: usize,
    pub damage: Damage,
    pub retry_state: RetryState,
    pub sender: UnboundedSender<ReturnedPart>,
}

/// Sends a delivered part back.
#[derive(Debug)]
pub(super) struct ReturnHandle {
    pub index: usize,
    /// Unbounded: each part is sent back at most once before it is delivered again. The channel closes when
    /// no part is out any more, which tells delivery that all parts were accepted.
    pub sender: UnboundedSender<ReturnedPart>,
    pub retry_state: RetryState,
    pub delivered_at: Instant,
}

impl ReturnHandle {
    /// Sends the part of `bytes` back, damaged by `damage`. Returns false once delivery has ended.
    pub(super) fn reject(self, bytes: u64, damage: &(dyn Error + 'static)) -> bool {
        let Self { index, sender, retry_state, delivered_at } = self;
        let damage = Damage { reason: error_chain(damage), bytes, waited: delivered_at.elapsed() };
        let returned = ReturnedPart { index, damage, retry_state, sender: sender.clone() };
        sender.send(returned).is_ok()
    }
}
