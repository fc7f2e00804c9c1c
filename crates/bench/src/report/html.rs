//! A report as one page that asks nobody for anything: plots of SVG, styles in the page, light and dark.

use std::fmt::{self, Write as _};

use crate::report::html_text::escaped;
use crate::report::plot::{cdf, ratios, slopes, strip};
use crate::report::table::verdict;
use crate::report::{RunReport, ScenarioResult, TargetVerdict, WorkResult};
use crate::stats::{median, short, spread};

/// The styles of the page: colours by name, another set where the reader prefers dark.
const STYLE: &str = include_str!("page.css");

/// A report as a page.
pub fn page(report: &RunReport) -> String {
    let mut out = String::new();
    // A String takes everything.
    let _infallible = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &RunReport) -> fmt::Result {
    let machine = &report.machine;
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>gateway bench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>gateway bench</h1>\n\
         <p>gateway {}<br>{}, {} cores, Linux {}; {}</p>\n\
         <p>Medians of {} rounds of {} s each; every round measures all contenders one after the other.</p>\n",
        escaped(&machine.gateway),
        escaped(&machine.processor),
        machine.cores,
        escaped(&machine.kernel),
        escaped(&machine.pinned),
        report.rounds,
        short(report.seconds),
    )?;
    summary(out, report)?;
    out.push_str("</header>\n<main>\n");
    for scenario in &report.scenarios {
        section(out, scenario)?;
    }
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

/// How many targets were met, and the way to each scenario.
fn summary(out: &mut String, report: &RunReport) -> fmt::Result {
    let targets = || report.scenarios.iter().flat_map(|one| &one.works).flat_map(|work| &work.targets);
    let met = targets().filter(|target| target.is_met() == Some(true)).count();
    let judged = targets().filter(|target| target.is_met().is_some()).count();
    write!(out, "<p class=\"sum\"><b>{met}</b> of {judged} targets met</p>\n<nav>")?;
    for scenario in &report.scenarios {
        let id = escaped(&scenario.id);
        write!(out, "<a href=\"#{id}\">{id}</a>")?;
    }
    out.push_str("</nav>\n");
    Ok(())
}

fn section(out: &mut String, scenario: &ScenarioResult) -> fmt::Result {
    let id = escaped(&scenario.id);
    writeln!(out, "<section id=\"{id}\">\n<h2><span>{id}</span> {}</h2>", escaped(&scenario.title))?;
    for work in &scenario.works {
        part(out, work)?;
    }
    for note in &scenario.notes {
        writeln!(out, "<p class=\"note\">{}</p>", escaped(note))?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn part(out: &mut String, work: &WorkResult) -> fmt::Result {
    writeln!(out, "<article>\n<h3>{}</h3>", escaped(&work.title))?;
    for target in &work.targets {
        verdict_line(out, target)?;
    }
    out.push_str("<div class=\"plots\">\n");
    if let Some(metric) = work.contenders.first().and_then(|result| result.metrics.first()) {
        figure(out, &format!("{}, a dot for each round", metric.name), &strip(work, &metric.name))?;
    }
    let by_round: Vec<&TargetVerdict> =
        work.targets.iter().filter(|target| target.rounds.len() > 1).collect();
    if !by_round.is_empty() {
        figure(out, "measured / target by round; the shaded side meets it", &ratios(&by_round))?;
    }
    if !work.distributions.is_empty() {
        figure(out, "latency: share of messages that were faster", &cdf(&work.distributions))?;
    }
    if !work.slopes.is_empty() {
        figure(out, "memory by connections", &slopes(&work.slopes))?;
    }
    out.push_str("</div>\n");
    numbers(out, work)?;
    out.push_str("</article>\n");
    Ok(())
}

fn verdict_line(out: &mut String, target: &TargetVerdict) -> fmt::Result {
    let class = match target.is_met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "open",
    };
    writeln!(out, "<p class=\"target {class}\">{}</p>", escaped(&verdict(target)))
}

fn figure(out: &mut String, caption: &str, svg: &str) -> fmt::Result {
    writeln!(out, "<figure><figcaption>{}</figcaption>\n{svg}</figure>", escaped(caption))
}

fn numbers(out: &mut String, work: &WorkResult) -> fmt::Result {
    let names = work.metric_names();
    out.push_str("<div class=\"wide\"><table>\n<tr><th></th>");
    for name in &names {
        write!(out, "<th>{}</th>", escaped(name))?;
    }
    out.push_str("</tr>\n");
    for result in &work.contenders {
        write!(out, "<tr><th>{}</th>", escaped(&result.who))?;
        for name in &names {
            let values = result.values(name);
            let (least, greatest) = spread(values);
            match values {
                [] => out.push_str("<td>–</td>"),
                [one] => write!(out, "<td>{}</td>", short(*one))?,
                _ => write!(
                    out,
                    "<td>{}<small>{}–{}</small></td>",
                    short(median(values)),
                    short(least),
                    short(greatest)
                )?,
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::report;

    #[test]
    fn a_page_asks_nobody_for_anything() {
        let page = page(&report());
        for outside in ["http://", "https://", "src=", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(outside), "{outside:?} leads out of the page");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_page_shows_plots_verdicts_and_text_that_is_no_markup() {
        let page = page(&report());
        assert!(page.contains("a &lt;processor&gt;") && !page.contains("<processor>"));
        assert!(page.contains("class=\"target missed\""));
        assert!(page.contains("<b>0</b> of 1 targets met"));
        assert_eq!(page.matches("<svg").count(), 4, "values, ratios, a distribution and a slope");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
