//! Prints what criterion measured as one Markdown table: median nanoseconds an op, and aioli's ratio to the best peer.
//!
//! `ratios [DIRECTORY]`, where the directory is criterion's, by default `target/criterion` here or in `CARGO_TARGET_DIR`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use aioli_benches::comparison::Comparison;
use aioli_benches::workload::{self, Workload};
use serde_json::Value;

struct Reader {
    home: PathBuf,
    table: Result<Comparison, Box<dyn Error>>,
}

impl workload::Visitor for Reader {
    fn visit<W: Workload>(&mut self) {
        if let Ok(table) = &mut self.table
            && let Err(error) = read(&self.home, W::NAME, table)
        {
            self.table = Err(error);
        }
    }
}

fn read(home: &Path, workload: &str, table: &mut Comparison) -> Result<(), Box<dyn Error>> {
    let group = match fs::read_dir(home.join(workload)) {
        Ok(group) => group,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for runtime in group {
        let runtime = runtime?;
        let path = runtime.path().join("new/estimates.json");
        if path.is_file() {
            let estimates: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let median = estimates["median"]["point_estimate"].as_f64();
            let median = median.ok_or_else(|| format!("no median in {}", path.display()))?;
            table.add(workload, &runtime.file_name().to_string_lossy(), median);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let home = env::args_os().nth(1).map(PathBuf::from).unwrap_or_else(|| {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        target.join("criterion")
    });
    if !home.is_dir() {
        return Err(
            format!("{} is not there: run the benches first, or name criterion's directory", home.display()).into()
        );
    }
    let mut reader = Reader { home, table: Ok(Comparison::default()) };
    workload::visit_all(&mut reader);
    println!("Median ns an op:\n\n{}", reader.table?);
    Ok(())
}
