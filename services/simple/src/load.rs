//! Work that requests are made to cost.

use std::time::{Duration, Instant};

/// How often the burning of CPU lets other work through.
const PERIOD: Duration = Duration::from_millis(10);
/// The largest share of the core that is burnt: the rest is needed to serve at all.
const MOST: f64 = 0.9;

/// What a request costs while it is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// The share of a core, 0 to 1.
    cpu: f64,
    memory: u64,
    memory_variance: u8,
}

impl Load {
    /// So many per cent of the MHz granted (0: of a whole core), and so many bytes.
    #[must_use]
    pub fn new(
        percentage: u8,
        allocated: u32,
        clock: u32,
        memory: u64,
        memory_variance: u8,
    ) -> Self {
        let granted = if allocated == 0 {
            1.0
        } else {
            f64::from(allocated) / f64::from(clock.max(1))
        };
        Self {
            cpu: (f64::from(percentage) / 100.0 * granted).min(MOST),
            memory,
            memory_variance,
        }
    }

    /// Does `work` at this cost.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let memory = self.allocate();
        let done = if self.cpu == 0.0 {
            work.await
        } else {
            tokio::select! {
                done = work => done,
                never = self.burn() => match never {},
            }
        };
        drop(memory);
        done
    }

    /// Memory that is really there: each page is written to.
    fn allocate(self) -> Vec<u8> {
        let share = f64::from(self.memory_variance) / 100.0 * rand::random::<f64>();
        // Bounded by the flag's range, so the cast loses nothing.
        vec![1; (self.memory as f64 * (1.0 + share)) as usize]
    }

    async fn burn(self) -> std::convert::Infallible {
        loop {
            let started = Instant::now();
            while started.elapsed() < PERIOD.mul_f64(self.cpu) {
                std::hint::spin_loop();
            }
            tokio::time::sleep(PERIOD.mul_f64(1.0 - self.cpu)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_is_granted_and_bounded() {
        let share = |percentage, allocated| Load::new(percentage, allocated, 1000, 0, 0).cpu;
        assert!((share(50, 0) - 0.5).abs() < 1e-9);
        assert!((share(50, 200) - 0.1).abs() < 1e-9);
        assert!((share(100, 4000) - MOST).abs() < 1e-9);
    }

    #[tokio::test]
    async fn work_is_done_at_its_cost() {
        let load = Load::new(50, 0, 1000, 4096, 10);
        assert_eq!(load.during(async { 7 }).await, 7);
        let memory = load.allocate().len();
        assert!((4096..=4506).contains(&memory), "{memory}");
    }
}
