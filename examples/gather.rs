//! `gather` awaits several coroutines at once. The results come in the order of the arguments.

use aioli::{Error, Result, gather, gather_results, sleep};

async fn square(n: u32) -> Result<u32> {
    sleep(f64::from(5 - n)).await?;
    println!("square of {n}");
    Ok(n * n)
}

async fn fails() -> Result<u32> {
    sleep(0.5).await?;
    Err(Error::msg("out of paper"))
}

/// The same in Python: `python/gather.py`.
pub async fn example() -> Result<()> {
    // A collection of coroutines of one type…
    let squares = gather([square(2), square(3), square(4)]).await?;
    println!("{squares:?}");
    // … or a tuple of any types.
    let (sixteen, greeting) = gather((square(4), async { Ok("hello") })).await?;
    println!("{sixteen} {greeting}");

    // The first error is returned at once, while the others run on.
    match gather((square(4), fails())).await {
        Ok(values) => println!("{values:?}"),
        Err(error) => println!("failed: {error}"),
    }
    sleep(1.0).await?;

    // To have them all, errors included: asyncio's `return_exceptions=True`.
    let (four, failed) = gather_results((square(4), fails())).await?;
    println!("{}, {}", four?, failed.unwrap_err());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
