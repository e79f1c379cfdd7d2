//! The cells of a batch, a few in one block of memory.
//!
//! ```text
//! ┌ Head ─────────────────────┬──────┬──────┬─────┐
//! │ left │ made │ home │ mark │ cell │ cell │ ... │
//! └───────────────────────────┴──────┴──────┴─────┘
//! ```
//!
//! The jobs of a batch are made together, end at about the same time and are read one after the
//! other. A block for some of them saves most of what the allocator costs, and all of them have
//! one reference to their executor. In return a block stays as long as the last of its cells: who
//! keeps one handle of a batch keeps up to [`ROOM`] bytes. That is also from where on glibc's
//! allocator sorts its free blocks, which costs more than larger ones would save.
//!
//! # Invariants
//!
//! 1. `left` counts the cells that are not freed, with those that are not made yet. Whoever
//!    takes away the last one frees the block, and nobody has touched it since.
//! 2. `home` lives as long as the block. A cell has a copy of it, which it never drops.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::vec;

use super::cell::{Birth, Cell, Header, TaskRef, VTable};
use super::make::{self, Spawned};
use super::reader::Reader;
use super::run::JobTable;
use super::runner::Runner;
use super::schedule::Schedule;
use super::side::Side;
use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::base::sync::{Arc, UnsafeCell};
use crate::join_error::JoinError;

/// The most bytes of a block.
const ROOM: usize = 1 << 10;

/// The most cells of a block.
const MEMBERS_MAX: usize = 8;

/// What the cells of a block share.
#[repr(C)]
struct Head {
    left: AtomicUsize,
    /// How many there were.
    made: usize,
    home: ManuallyDrop<Arc<dyn Schedule>>,
    /// Looked at by whoever frees a cell, written by who frees the block: for models.
    mark: UnsafeCell<()>,
}

/// The side of a cell in a block: where the block begins.
struct Member(NonNull<Head>);

// SAFETY: what is behind the pointer is shared by its atomic count, and its home is `Sync`.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}
impl Side for Member {}

/// Jobs for one executor, all spawned at the same place in the same context.
pub(crate) fn jobs<F, T>(
    spawned: &Spawned,
    home: &Arc<dyn Schedule>,
    mut works: vec::IntoIter<F>,
    mut each: impl FnMut(TaskRef, Reader<T>),
) where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    while let Some(work) = works.next() {
        let rest = works.by_ref().map(fallible);
        row(spawned, home, fallible(work), rest, &mut each);
    }
}

/// A closure as a cell wants it.
fn fallible<F, T>(work: F) -> impl FnOnce() -> Result<T, JoinError> + Send + 'static
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    move || Ok(work())
}

/// The next block of them: `work`, and what fits beside it of the rest.
#[inline]
fn row<F, T>(
    spawned: &Spawned,
    home: &Arc<dyn Schedule>,
    work: F,
    rest: impl ExactSizeIterator<Item = F>,
    each: &mut impl FnMut(TaskRef, Reader<T>),
) where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    let count = Row::<F, T>::MEMBERS.min(1 + rest.len());
    if count < 2 {
        let (task, reader) = make::job(spawned.again(), home.clone(), None, work);
        return each(task, reader);
    }
    let head = Row::<F, T>::allocate(count, home.clone());
    let works = std::iter::once(work).chain(rest);
    for (at, work) in works.take(count).enumerate() {
        // SAFETY: `at` is below `count`, for which the block was made, and new in each turn.
        let cell = unsafe { Row::<F, T>::put(head, at, spawned.again(), work) };
        // SAFETY: a new cell has one driver and one reading half, and its output is a `T`.
        let (task, reader) = unsafe { make::ends(cell) };
        each(task, reader);
    }
}

/// Blocks of `Cell<F, T, Member>`.
struct Row<F, T>(PhantomData<(F, T)>);

impl<F, T> Row<F, T>
where
    F: FnOnce() -> Result<T, JoinError>,
{
    const MEMBERS: usize = {
        let fit = (ROOM - size_of::<Head>()) / size_of::<Cell<F, T, Member>>();
        if fit < MEMBERS_MAX { fit } else { MEMBERS_MAX }
    };

    const TABLE: VTable = VTable {
        free: Self::free,
        is_plain: true,
        ..JobTable::<F, T, Member>::TABLE
    };

    /// The block for so many cells, and where in it they begin.
    fn layout(count: usize) -> (Layout, usize) {
        let cells = Layout::array::<Cell<F, T, Member>>(count);
        let block = cells.and_then(|cells| Layout::new::<Head>().extend(cells));
        block.expect("at most ROOM bytes")
    }

    fn allocate(count: usize, home: Arc<dyn Schedule>) -> NonNull<Head> {
        let (layout, _) = Self::layout(count);
        // SAFETY: the layout has the size of a head at least.
        let block = unsafe { alloc(layout) };
        let Some(head) = NonNull::new(block.cast::<Head>()) else {
            handle_alloc_error(layout)
        };
        let new = Head {
            left: AtomicUsize::new(count),
            made: count,
            home: ManuallyDrop::new(home),
            mark: UnsafeCell::new(()),
        };
        // SAFETY: the block is new, and begins with room for a head.
        unsafe { head.write(new) };
        head
    }

    /// Makes a cell in its place.
    ///
    /// # Safety
    ///
    /// 1. `head` is the live block of [`Row::allocate`], with more than `at` places.
    /// 2. There is nothing in that place.
    #[inline]
    unsafe fn put(head: NonNull<Head>, at: usize, spawned: Spawned, work: F) -> NonNull<Header> {
        // SAFETY: duty 1.
        let shared = unsafe { &head.as_ref().home };
        // SAFETY: as above. Nobody drops the copy (invariant 2).
        let home = unsafe { ptr::read(&**shared) };
        let birth = Birth {
            home: Some(home),
            ..spawned.birth(0, const { &Self::TABLE }, None)
        };
        let (_, start) = Self::layout(1);
        // SAFETY: duty 1: the cells begin here.
        let first = unsafe { head.cast::<u8>().add(start) }.cast::<Cell<F, T, Member>>();
        // SAFETY: duty 1: the place is in the block.
        let place = unsafe { first.add(at) };
        // SAFETY: duty 2; the place has the size and the alignment of a cell.
        unsafe { Cell::put_with_work(place, birth, Member(head), work) }
    }

    /// # Safety
    ///
    /// 1. `cell` is one that [`Row::put`] made, and no reference is left.
    unsafe fn free(cell: NonNull<Header>, _: Option<&dyn Runner>) {
        let cell = cell.cast::<Cell<F, T, Member>>();
        // SAFETY: duty 1: until it is dropped below, the cell is alive.
        let member = unsafe { cell.as_ref() };
        let head = member.side.0;
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        crate::base::simulated::freed(member.header.id.number());
        // Also if a destructor in the cell unwinds.
        let _left = Left::<F, T>(head, PhantomData);
        // SAFETY: duty 1; nobody uses it after.
        unsafe { cell.drop_in_place() };
    }
}

/// A cell has left its block.
struct Left<F, T>(NonNull<Head>, PhantomData<(F, T)>)
where
    F: FnOnce() -> Result<T, JoinError>;

impl<F, T> Drop for Left<F, T>
where
    F: FnOnce() -> Result<T, JoinError>,
{
    fn drop(&mut self) {
        {
            // SAFETY: the cell that leaves is still counted (invariant 1).
            let head = unsafe { self.0.as_ref() };
            head.mark.with(|_| ());
            // Ordering: Release: who frees the block comes after all that was done to this cell;
            // Acquire: and the last one after that of all others.
            if head.left.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            head.mark.with_mut(|_| ());
        }
        // SAFETY: nobody else is left (invariant 1), and the head is not used again.
        let head = unsafe { self.0.read() };
        let (layout, _) = Row::<F, T>::layout(head.made);
        // SAFETY: `allocate` made the block with this layout, and all of its cells are dropped.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) };
        drop(ManuallyDrop::into_inner(head.home));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{MEMBERS_MAX, Row, jobs};
    use crate::base::sync::Arc;
    use crate::join_error::JoinError;
    use crate::task::{Home, Reader, Schedule, Spawned, TaskRef, WakeKind};

    struct Elsewhere;

    impl Schedule for Elsewhere {
        fn schedule(&self, task: TaskRef, _: WakeKind) {
            task.shut_down();
        }
        fn home(&self) -> Home {
            Home::Anywhere
        }
    }

    type Made<T> = Vec<(TaskRef, Reader<T>)>;

    fn make<F, T>(works: Vec<F>) -> (Arc<dyn Schedule>, Made<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let home: Arc<dyn Schedule> = Arc::new(Elsewhere);
        let mut made = Vec::new();
        let works = works.into_iter();
        jobs(&Spawned::here(), &home, works, |task, reader| {
            made.push((task, reader));
        });
        (home, made)
    }

    #[test]
    fn the_jobs_of_a_block_run_and_their_outcomes_stay_in_any_order() {
        let (home, made) = make((0..20).map(|n| move || vec![n]).collect());
        assert_eq!(
            Arc::strong_count(&home),
            1 + 3,
            "a reference for each block"
        );
        let mut readers: Vec<_> = made
            .into_iter()
            .map(|(task, reader)| {
                task.run();
                reader
            })
            .collect();
        let last = readers.split_off(13);
        for (n, mut reader) in readers.into_iter().enumerate().rev() {
            assert_eq!(reader.take().expect("it has ended").ok(), Some(vec![n]));
        }
        assert_eq!(Arc::strong_count(&home), 1 + 2);
        drop(last);
        assert_eq!(Arc::strong_count(&home), 1);
    }

    #[test]
    fn what_is_cancelled_lost_or_not_read_frees_the_block_too() {
        let probe = Arc::new(());
        let inside = (0..8).map(|_| probe.clone());
        let (home, mut made) = make(inside.map(|probe| move || probe).collect());
        let (_, cancelled) = made.remove(0);
        let _ = cancelled.cancel();
        drop(made.remove(0).0);
        made.remove(0).0.run();
        assert_eq!(Arc::strong_count(&home), 2);
        drop((made, cancelled));
        assert_eq!(Arc::strong_count(&home), 1);
        assert_eq!(Arc::strong_count(&probe), 1);
    }

    #[test]
    fn large_closures_have_blocks_of_their_own() {
        fn members<F: FnOnce() -> Result<T, JoinError>, T>(_: &F) -> usize {
            Row::<F, T>::MEMBERS
        }
        let (small, large) = ([0_u8; 8], [1_u8; 2_000]);
        assert_eq!(members(&move || Ok(small)), MEMBERS_MAX);
        assert_eq!(members(&move || Ok(large)), 0);
        let (home, made) = make((0..3).map(|_| move || large).collect());
        assert_eq!(Arc::strong_count(&home), 1 + 3);
        for (task, mut reader) in made {
            task.run();
            assert_eq!(reader.take().expect("it has ended").ok(), Some(large));
        }
        assert_eq!(Arc::strong_count(&home), 1);
    }

    #[test]
    fn closures_of_any_alignment_have_their_place() {
        #[repr(align(64))]
        #[derive(Clone, Copy)]
        struct Wide(u8);
        let (_home, made) = make((0..5).map(|n| move || Wide(n)).collect());
        for (n, (task, mut reader)) in made.into_iter().enumerate() {
            assert_eq!(task.address() as usize % 64, 0);
            task.run();
            let wide = reader.take().expect("it has ended").ok();
            assert_eq!(wide.map(|wide| wide.0), Some(n as u8));
        }
    }
}
