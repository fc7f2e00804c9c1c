//! A thread with an owner. Dropping the owner has it end, and waits for it.

use std::io;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// See the module. `Word` is what it may be told at its end.
#[derive(Debug)]
pub(crate) struct OwnedThread<Word = ()> {
    stop: Option<oneshot::Sender<Word>>,
    thread: Option<JoinHandle<()>>,
}

impl<Word: Send + 'static> OwnedThread<Word> {
    /// Runs `work` on a thread of this name. What it is given resolves when it is to end: with a word after
    /// [`OwnedThread::finish`], without one when the owner is dropped.
    ///
    /// # Errors
    /// The machine gave no thread.
    pub(crate) fn start(
        name: &str,
        work: impl FnOnce(oneshot::Receiver<Word>) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = Builder::new().name(name.to_owned()).spawn(move || work(stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Has it end with this word. Blocks until it has.
    pub(crate) fn finish(mut self, word: Word) {
        if let Some(stop) = self.stop.take() {
            let _a_thread_that_has_panicked_needs_no_word = stop.send(word);
        }
    }
}

impl<Word> Drop for OwnedThread<Word> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn it_is_told_to_end_and_has_ended_when_its_owner_has() {
        for word in [Some(7), None] {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let here = Arc::clone(&heard);
            let thread = OwnedThread::start("owned", move |stopped| {
                here.lock().unwrap().push(stopped.blocking_recv().ok());
            });
            match word {
                Some(word) => thread.unwrap().finish(word),
                None => drop(thread),
            }
            assert_eq!(*heard.lock().unwrap(), [word]);
        }
    }

    #[test]
    fn the_owner_of_one_that_panicked_ends_all_the_same() {
        let thread = OwnedThread::<()>::start("owned", |_| panic!("meant to panic")).unwrap();
        thread.finish(());
    }
}
