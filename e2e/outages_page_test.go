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

// outagesHead is what docs/outages.md says before its tables.
const outagesHead = `# Outages

What keeps working while the upstream is down, how soon everything else is refused, and what to do about it.

## What it means for you

- **Writes with ` + "`write = \"back\"`" + ` go on.** PUT, DELETE, multipart uploads and copies of pending objects are acknowledged by the journal as always, and
  are read and listed from it. This holds after a restart, for buckets that the gateway knew before. It ends when the journal is
  full: ` + "`write_back.max_pending_bytes`, `max_pending` and `max_pending_secs`" + ` say when.
- **Cached objects that need no validation are served as always**: freshness ` + "`immutable` and `exclusive`" + `, and ` + "`events`" + ` until a restart.
- **Cached objects with freshness ` + "`ttl` and `max_stale_secs`" + ` are served stale.** At the start of an outage that hangs, a reader waits for the
  deadline at most; once the upstream is suspect, nobody waits.
- **Everything else is refused with 503**, by its deadline at the latest. An upstream that answers nothing becomes suspect when several requests
  have waited for ` + "`suspect_after_ms`" + ` and a probe for ` + "`probe_timeout_ms`" + `, 13 seconds in all by default; from then on such requests are refused at once,
  with Retry-After, until a probe is answered.
- **A slow upstream is not a broken one.** As long as it answers within the deadlines, every answer is its own: nothing is refused and nothing is stale.
- **When the upstream is back, so is everything else, within 5 seconds**: misses are answered and the journal is flushed. A key that was
  written again after an upload of it had met its deadline stays pending for 1.5 seconds more, or as many as it takes to undo what the upstream does late
  ([contract](contract.md)).

## Settings

| key | what it decides here |
|---|---|
| ` + "`upstream.request_deadline_secs`" + ` | how long a GET, HEAD, LIST or DELETE waits for the upstream, all retries included |
| ` + "`upstream.write_deadline_secs`" + ` | the same for a PUT or UploadPart, after the last byte of its body |
| ` + "`upstream.long_deadline_secs`" + ` | the same for what may take long: CompleteMultipartUpload, copies, DeleteObjects, forwarded changes |
| ` + "`upstream.suspect_after_ms`, `upstream.probe_timeout_ms`" + ` | how soon an upstream that answers nothing is suspect. The probe has to wait longer than the upstream takes when it is slow |
| ` + "`cache.freshness`, `cache.max_stale_secs`" + `, and the same in rules | which cached objects are served without the upstream, and for how long |
| ` + "`stale_after_ms`" + ` in a rule | how long a reader waits for a validation before it is served stale, whether the upstream is suspect or not |
| ` + "`write = \"back\"`" + ` in a rule | which writes are acknowledged without the upstream |

An outage that you expect (maintenance of the upstream) needs no setting of its own: have enough room in the journal.

## Where to look

- ` + "`akigw status`" + ` says what is pending, what is refused and why, and which upstream is suspect. The log says when that began and ended.
- ` + "`akigw doctor`" + ` asks the upstream itself.
- [Metrics](metrics.md): ` + "`akigw_cold_suspect`" + ` and the other ` + "`akigw_cold_*`" + ` for requests to the upstream, ` + "`akigw_journal_*` and `akigw_uploadpool_*`" + ` for what is pending. Answers carry
  ` + "`x-akigw-cache: stale`" + ` when they are stale.
- [troubleshooting.md](troubleshooting.md) starts from symptoms, [faults.md](faults.md) rehearses an outage on purpose.
`

// outagesHow says how to read the tables.
const outagesHow = `
## Once the outage is noticed

Each row is an upstream that fails in one way, each column what a request needs of it: how it is answered, and the slowest time, some seconds
into the outage, with and without a restart in it. Details follow.

Times: *at once* is up to 100 ms, and up to 50 ms for what needs no upstream (the 99th percentile of 100 requests); *1 s* is up to 1.2 s; *5 s* and
*8 s* are what they say, with 0.5 s, and so are *deadline*, *write deadline* and *long deadline*, which are those of the settings. The run has the default deadlines, but 60 s for long operations. It breaks a real upstream, over TLS, in a process of its own:
` + "`make long TEST=Outages`" + `. This page is generated from its figures and checked by a test.

`

// needTitles are the columns of the first table.
var needTitles = []struct {
	needs
	title string
}{{nothing, "needs no upstream"}, {staleServes, "may be stale"}, {shortRead, "GET, HEAD, LIST, DELETE"}, {storedBody, "PUT, UploadPart"}, {longDeadline, "long operations"}}

// times are the classes of outageRun.timeClass, soonest first.
var timeNames = []string{"at once", "1 s", "5 s", "8 s", "deadline", "write deadline", "long deadline", "too late"}

// worst merges cells into one: all statuses, and the latest time.
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

// inWords is what a status means: what is no failure is the right answer, whatever that is.
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

// only are the cells that pass a test.
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

// outageSection is what happens while an upstream fails in one way. Operations that fare alike share a row.
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

// TestOutagesPage: docs/outages.md says what the last long run found, which has to have passed.
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
