//! Where reports go.

use std::fs;
use std::io;
use std::path::Path;

use crate::chart::Chart;
use crate::run::RunError;

/// Refuses, before anything is measured, files whose folder is not there.
///
/// # Errors
/// The flag, the file and the folder that is missing.
pub fn check_folders<'a>(
    files: impl IntoIterator<Item = (&'a str, Option<&'a Path>)>,
) -> Result<(), RunError> {
    for (flag, path) in files {
        let Some(path) = path else { continue };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let (path, folder) = (path.display(), folder.display());
            return Err(RunError::Flags(format!("{flag} {path}: there is no folder {folder}")));
        }
        if path.is_dir() && flag != "--charts" {
            return Err(RunError::Flags(format!("{flag} {} is a folder", path.display())));
        }
    }
    Ok(())
}

/// Writes a page.
///
/// # Errors
/// What the file system says.
pub fn write_html(path: &Path, html: &str) -> Result<(), RunError> {
    fs::write(path, html).map_err(|error| named("writing the HTML report", path, &error))
}

/// Writes each chart as SVG and PNG into `folder`, which is made if it is not there.
///
/// # Errors
/// What the file system says; a chart that cannot be drawn.
pub fn write_charts(folder: &Path, charts: &[Chart]) -> Result<(), RunError> {
    let what = "writing the charts";
    fs::create_dir_all(folder).map_err(|error| named(what, folder, &error))?;
    for chart in charts {
        let write = |ending: &str, bytes: &[u8]| {
            let path = folder.join(chart.name).with_extension(ending);
            fs::write(&path, bytes).map_err(|error| named(what, &path, &error))
        };
        let drawn = |error| RunError::Io("drawing", io::Error::other(error));
        write("svg", chart.svg().map_err(drawn)?.as_bytes())?;
        write("png", &chart.png().map_err(drawn)?)?;
    }
    Ok(())
}

fn named(what: &'static str, path: &Path, error: &io::Error) -> RunError {
    RunError::Io(what, io::Error::other(format!("{}: {error}", path.display())))
}
