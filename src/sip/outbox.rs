//! Messages that a flow wants to send, back to back in one buffer. Who drives the flow hands them to a
//! transport and clears the outbox, which keeps its memory: the steady state allocates nothing.

/// Whole messages, in the order in which they are to be sent.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the one message that `write` appends to the buffer.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        result
    }

    /// Appends a copy of `message`.
    pub fn push(&mut self, message: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(message));
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |&end| {
            let message = &self.bytes[from..end];
            from = end;
            message
        })
    }

    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How long they are together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_boundaries_and_memory() {
        let mut outbox = Outbox::new();
        assert!(outbox.is_empty());
        outbox.push(b"one");
        outbox.push_with(|bytes| bytes.extend_from_slice(b"three"));
        assert_eq!(outbox.iter().collect::<Vec<_>>(), [&b"one"[..], b"three"]);
        assert_eq!(outbox.len(), 2);
        let capacity = outbox.bytes.capacity();
        outbox.clear();
        assert!(outbox.is_empty() && outbox.iter().next().is_none());
        assert_eq!(outbox.bytes.capacity(), capacity);
    }
}
