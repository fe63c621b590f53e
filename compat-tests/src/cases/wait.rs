//! `wait`, turn by turn, as CPython does it.

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "wait" in wait as __cases_wait;
    first_exception_is_not_a_cancellation: "GA6" = "test_tasks::BaseTaskTests::test_wait_first_exception";
    first_exception_returns_with_the_first_error: "GA6"
        = "test_tasks::BaseTaskTests::test_wait_first_exception",
          "test_tasks::BaseTaskTests::test_wait_first_exception_in_wait";
    first_completed_gives_all_that_are_done_by_then: "GA6" = "test_tasks::BaseTaskTests::test_wait_first_completed";
    its_timeout_is_no_error_and_cancels_nothing: "GA6";
    its_deadline_is_the_same_in_another_task: "L6 L5";
    nothing_to_wait_for_is_an_error: "GA6"
        = "test_tasks::BaseTaskTests::test_wait_errors",
          "test_tasks::BaseTaskTests::test_wait_invalid_args";
    the_same_future_twice_counts_once: "GA6" = "test_tasks::BaseTaskTests::test_wait_duplicate_coroutines";
}

fn first_exception_is_not_a_cancellation(on: &Machine) {
    on.run(async {
        let (one, two) = (pending::<()>(), pending::<()>());
        let waited = [one.clone(), two.clone()];
        let task = create_task(async move {
            wait(waited).return_when(ReturnWhen::FirstException).await.map(|(done, left)| (done.len(), left.len()))
        });
        pump(1).await?;
        one.cancel(None);
        pump(3).await?;
        assert!(!task.done());
        two.set_result(())?;
        pump(3).await?;
        assert_eq!(state(&task), "RESULT (2, 0)");
        Ok(())
    });
}

fn first_exception_returns_with_the_first_error(on: &Machine) {
    on.run(async {
        let tasks = [create_task(sleep(1.0)), create_task(async { sleep(2.0).await.and(fail("e").await) })];
        let slow = create_task(sleep(9.0));
        let (done, left) = wait([&tasks[0], &tasks[1], &slow]).return_when(ReturnWhen::FirstException).await?;
        assert_eq!((done.len(), left.len(), seconds()), (2, 1, 2.0));
        assert!(tasks[1].result().is_err());
        Ok(())
    });
}

fn first_completed_gives_all_that_are_done_by_then(on: &Machine) {
    on.run(async {
        let futures = [pending::<u32>(), pending(), pending()];
        let waited = futures.clone();
        let task = create_task(async move {
            let (done, left) = wait(&waited).return_when(ReturnWhen::FirstCompleted).await?;
            Ok((done.len(), left.len()))
        });
        pump(1).await?;
        futures[2].set_result(3)?;
        futures[0].set_result(1)?;
        pump(3).await?;
        assert_eq!(state(&task), "RESULT (2, 1)");

        let [slow, quick] = [10.0, 0.1].map(|seconds| create_task(sleep(seconds)));
        let (done, left) = wait([&quick, &slow]).return_when(ReturnWhen::FirstCompleted).await?;
        assert_eq!((done.len(), left.len(), seconds()), (1, 1, 0.1));
        assert!(quick.done() && !slow.done());
        quick.await
    });
}

fn its_timeout_is_no_error_and_cancels_nothing(on: &Machine) {
    on.run(async {
        let task = create_task(sleep(5.0));
        let (done, left) = wait([&task]).timeout(1.0).await?;
        assert_eq!((done.len(), left.len(), seconds()), (0, 1, 1.0));
        assert_eq!(task.cancelling(), 0);
        let (done, _) = wait([&task]).timeout(9.0).await?;
        assert_eq!((done.len(), seconds()), (1, 5.0));
        Ok(())
    });
}

fn its_deadline_is_the_same_in_another_task(on: &Machine) {
    on.run(async {
        let never = pending::<()>();
        for (moved_at, set_at, end) in [(4.0, 99.0, 10.0), (12.0, 99.0, 12.0), (4.0, 7.0, 7.0), (7.0, 4.0, 7.0)] {
            let begin = seconds();
            let waited = [never.clone(), pending()];
            let setter = waited[1].clone();
            event_loop().call_later(set_at, move || drop(setter.set_result(())))?;
            let wait = wait(waited).timeout(10.0).return_when(ReturnWhen::FirstCompleted);
            let mut begun = Box::pin(wait);
            assert!(touch(begun.as_mut()).await.is_pending());
            sleep(moved_at).await?;
            let (done, left) = create_task(begun).await?;
            let came = usize::from(set_at < 10.0);
            assert_eq!((done.len(), left.len(), seconds() - begin), (came, 2 - came, end));
        }
        Ok(())
    });
}

fn nothing_to_wait_for_is_an_error(on: &Machine) {
    on.run(async {
        assert_eq!(wait(Vec::<Task<()>>::new()).await.unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    });
}

fn the_same_future_twice_counts_once(on: &Machine) {
    on.run(async {
        let task = create_task(sleep(1.0));
        let (done, left) = wait([&task, &task]).await?;
        assert_eq!((done.len(), left.len(), seconds()), (2, 0, 1.0));
        Ok(())
    });
}
