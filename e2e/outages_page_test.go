package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	outagesPage    = "../docs/outages.md"
	outagesResults = "../docs/results/Outages-long.json"
)

// outagesHead is the text of docs/outages.md before its tables.
const outagesHead = `# Outages

This page says what keeps working while the upstream is down, how soon everything else is refused, and what you can do about it.

## What it means for you

- **Writes with ` + "`write = \"back\"`" + ` go on.** The journal acknowledges PUT, DELETE, multipart uploads and copies of pending objects as always, and
  they are read and listed from it. This also holds after a restart, for buckets that the gateway knew before. It ends when the journal is
  full: ` + "`write_back.max_pending_bytes`, `max_pending` and `max_pending_secs`" + ` say when.
- **Cached objects that need no validation are served as always**: those with freshness ` + "`immutable` and `exclusive`" + `, and ` + "`events`" + ` until a restart.
- **Cached objects with freshness ` + "`ttl` and `max_stale_secs`" + ` are served stale.** At the start of an outage in which the upstream hangs, a reader waits
  until its deadline at most; once the upstream is suspect, no reader waits.
- **Everything else is refused with 503**, by its deadline at the latest. An upstream that answers nothing becomes suspect when several requests
  have waited for ` + "`suspect_after_ms`" + ` and a probe has waited for ` + "`probe_timeout_ms`" + `, 13 seconds in all by default. From then on such requests are refused at
  once, with Retry-After, until the upstream answers a probe.
- **A slow upstream is not a broken one.** As long as it answers within the deadlines, clients get its answers: nothing is refused and nothing is stale.
- **Vector collections** in memory and on disk are searched as before, and calls that write are acknowledged by the journal until ` + "`vectors.memory_bytes`" + ` is full (then 429). Cold collections get 503 ([vectors.md](vectors.md)).
- **Everything works again within 5 seconds after the upstream is back**: misses are answered and the journal is flushed. If an upload of a key met its
  deadline and the key was written again, that write stays pending for 1.5 seconds more, or for as long as it takes to undo what the upstream does late
  ([contract](contract.md)).

## Settings

| key | what it decides in an outage |
|---|---|
| ` + "`upstream.request_deadline_secs`" + ` | how long a GET, HEAD, LIST or DELETE waits for the upstream, all retries included |
| ` + "`upstream.write_deadline_secs`" + ` | the same for a PUT or UploadPart, after the last byte of its body |
| ` + "`upstream.long_deadline_secs`" + ` | the same for operations that may take long: CompleteMultipartUpload, copies, DeleteObjects, forwarded changes |
| ` + "`upstream.suspect_after_ms`, `upstream.probe_timeout_ms`" + ` | how soon an upstream that answers nothing becomes suspect. The probe must wait longer than the upstream takes when it is slow |
| ` + "`cache.freshness`, `cache.max_stale_secs`" + `, and the same in rules | which cached objects are served without the upstream, and for how long |
| ` + "`stale_after_ms`" + ` in a rule | how long a reader waits for a validation before it is served stale, whether the upstream is suspect or not |
| ` + "`write = \"back\"`" + ` in a rule | which writes are acknowledged without the upstream |

An outage that you expect, such as maintenance of the upstream, needs no setting of its own. Make sure that the journal has enough room.

## Where to look

- ` + "`akigw status`" + ` shows what is pending, what is refused and why, and which upstream is suspect. The log says when each of these began and ended.
- ` + "`akigw doctor`" + ` sends requests to the upstream itself.
- [Metrics](metrics.md): ` + "`akigw_cold_suspect`" + ` and the other ` + "`akigw_cold_*`" + ` for requests to the upstream, ` + "`akigw_journal_*` and `akigw_uploadpool_*`" + ` for pending writes. Stale responses carry
  ` + "`x-akigw-cache: stale`" + `.
- [troubleshooting.md](troubleshooting.md) starts from symptoms. [faults.md](faults.md) says how to rehearse an outage.
`

// outagesHow explains how to read the tables.
const outagesHow = `
## Once the outage is noticed

Each row is one way in which the upstream fails. Each column is what a request needs from it. A cell says how such requests are answered, and the slowest time, some seconds
into the outage, with and without a restart during the outage. Details follow.

Times: *at once* is up to 100 ms, and up to 50 ms for requests that need no upstream (the 99th percentile of 100 requests); *1 s* is up to 1.2 s; *5 s*, *8 s*, *deadline*,
*write deadline* and *long deadline* are these times with a tolerance of 0.5 s, and the deadlines are those of the settings. The test run has the default deadlines, except 60 s for long operations.
It breaks a real upstream, over TLS, in a process of its own: ` + "`make long TEST=Outages`" + `. This page is generated from the figures of that run and checked by a test.

`

// needTitles are the columns of the first table.
var needTitles = []struct {
	needs
	title string
}{{nothing, "needs no upstream"}, {staleServes, "may be stale"}, {shortRead, "GET, HEAD, LIST, DELETE"}, {storedBody, "PUT, UploadPart"}, {longDeadline, "long operations"}}

// times are the classes of outageRun.timeClass, soonest first.
var timeNames = []string{"at once", "1 s", "5 s", "8 s", "deadline", "write deadline", "long deadline", "too late"}

// worst merges cells into one, with all statuses and the latest time.
func worst(cells []outageCell) string {
	if len(cells) == 0 {
		return ""
	}
	var statuses []string
	latest := 0
	for _, c := range cells {
		statuses = append(statuses, strings.Split(c.Status, " or ")...)
		latest = max(latest, slices.Index(timeNames, c.Time))
	}
	slices.Sort(statuses)
	return strings.Join(slices.Compact(statuses), " or ") + ", " + timeNames[latest]
}

// inWords describes a status: a success is the right answer, whatever its status.
func inWords(status string) string {
	all := strings.Split(status, " or ")
	for i, one := range all {
		switch one {
		case "200", "204", "400":
			all[i] = "answered"
		case "200 stale":
			all[i] = "stale"
		}
	}
	return strings.Join(all, " or ")
}

// only returns the cells that pass a test.
func only(cells []outageCell, keep func(outageCell) bool) []outageCell {
	return slices.DeleteFunc(slices.Clone(cells), func(c outageCell) bool { return !keep(c) })
}

// outageSummary is the first table.
func outageSummary(figures map[ailment]outageFigures) string {
	var b strings.Builder
	b.WriteString("| the upstream |")
	for _, n := range needTitles {
		fmt.Fprintf(&b, " %s |", n.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(needTitles)) + "\n")
	for _, a := range ailments {
		fmt.Fprintf(&b, "| %s |", a.title)
		for _, n := range needTitles {
			later := only(append(slices.Clone(figures[a.is].Running), figures[a.is].Restarted...), func(c outageCell) bool { return c.Phase == "later" && c.Needs == n.needs })
			for i, c := range later {
				later[i].Status = inWords(c.Status)
			}
			fmt.Fprintf(&b, " %s |", worst(later))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// outageSection describes what happens while an upstream fails in one way. Operations with the same
// result share a row.
func outageSection(f outageFigures) string {
	var b strings.Builder
	for _, long := range []bool{false, true} {
		var rows, order = map[string][]string{}, []string{}
		for _, o := range operations {
			if (o.needs == longDeadline) != long {
				continue
			}
			row := ""
			for _, cells := range [][]outageCell{f.Running, f.Restarted} {
				for _, phase := range phases {
					row += " " + worst(only(cells, func(c outageCell) bool { return c.Operation == o.name && c.Phase == phase })) + " |"
				}
			}
			if rows[row] == nil {
				order = append(order, row)
			}
			rows[row] = append(rows[row], o.name)
		}
		title := "operation"
		if long {
			title = "long operation"
		}
		fmt.Fprintf(&b, "\n| %s | at first | later | restarted: at first | later |\n|---|---|---|---|---|\n", title)
		for _, row := range order {
			fmt.Fprintf(&b, "| %s |%s\n", strings.Join(rows[row], "; "), row)
		}
	}
	return b.String()
}

// TestOutagesPage: docs/outages.md matches the last long run, which must have passed.
func TestOutagesPage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(outagesResults)
	if err != nil {
		t.Fatalf("%v: make long TEST=Outages, and copy results/Outages-long.json there", err)
	}
	var run struct {
		Size    string
		Passed  bool
		Figures map[ailment]outageFigures
	}
	if err := json.Unmarshal(raw, &run); err != nil {
		t.Fatal(err)
	}
	if !run.Passed || run.Size != "long" {
		t.Errorf("%s is of a %s run; passed: %t", outagesResults, run.Size, run.Passed)
	}
	page := outagesHead + outagesHow + outageSummary(run.Figures)
	for _, a := range ailments {
		f := run.Figures[a.is]
		if want := 2 * len(operations); len(only(f.Running, isOperation)) != want || len(only(f.Restarted, isOperation)) != want {
			t.Errorf("%s: %d and %d cells, want %d each", a.is, len(f.Running), len(f.Restarted), want)
		}
		page += "\n## " + a.title + "\n\n" + a.how + "\n" + outageSection(f)
	}
	if *updateDocs {
		writeFile(t, outagesPage, []byte(page))
	}
	if string(readFile(t, outagesPage)) != page {
		t.Error("docs/outages.md is not what the run found: go test -run TestOutagesPage -update ./... in e2e/")
	}
}

func isOperation(c outageCell) bool { return c.Needs != "" }
