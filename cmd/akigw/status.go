package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/writeback/buckets"
)

// statusCommand is "akigw status".
type statusCommand struct{ remote }

// Run prints the status.
func (s *statusCommand) Run() error {
	st, err := ask(&s.remote, (*client.Client).Status)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(st)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "version\t%s\n", st.Version)
	fmt.Fprintf(table, "hot tier\t%s of %s\n", size.Human(st.HotBytes), size.Human(st.HotQuota))
	fmt.Fprintf(table, "warm tier\t%s of %s\n", size.Human(st.WarmBytes), size.Human(st.WarmQuota))
	fmt.Fprintf(table, "pending writes\t%d (%s), oldest for %s\n", st.Pending, size.Human(st.Bytes), time.Duration(st.OldestSecs)*time.Second)
	fmt.Fprintf(table, "uploads\t%d under way, up to %d in parallel; %d waiting to retry\n", st.Uploading, st.Limit, st.Waiting)
	fmt.Fprintf(table, "rate\t%.1f writes per second (%s/s) in the last minute\n", st.Rate, size.Human(int64(st.ByteRate)))
	for _, bucket := range st.Broken {
		fmt.Fprintf(table, "breaker open\trequests to bucket %q are refused for a short time, because too many failed\n", bucket)
	}
	for _, name := range st.Suspects {
		fmt.Fprintf(table, "suspect\tupstream %q has stopped responding: requests that need it are refused until it responds to a probe\n", name)
	}
	fmt.Fprintf(table, "open uploads\t%d\n", st.Uploads)
	fmt.Fprintf(table, "packed\t%d objects in %d packs\n", st.Packed, st.Packs)
	if st.Translated > 0 {
		fmt.Fprintf(table, "ETags\t%d objects have a different ETag upstream than was acknowledged; the gateway translates it\n", st.Translated)
	}
	fmt.Fprintf(table, "dates\t%d objects are shown with the acknowledged Last-Modified instead of the upstream's\n", st.Dates)
	fmt.Fprintf(table, "dead letters\t%d\n", st.Dead)
	if v := st.Vectors; v != nil {
		printVectorTotals(table, v)
	}
	for name, why := range st.Paused {
		fmt.Fprintf(table, "paused\tuploads to %s: %s\n", name, why)
	}
	for _, n := range st.WriteBack {
		printNote(table, &n)
	}
	for name, text := range map[string]string{"last failure": st.Failing, "journal": st.Problem, "warm tier": st.WarmProblem} {
		if text != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, text)
		}
	}
	if st.Repaired > 0 {
		fmt.Fprintf(table, "journal's copies\t%d records and bodies were damaged or missing in one directory and were repaired from the other: check that disk\n", st.Repaired)
	}
	if st.LostBodies > 0 {
		fmt.Fprintf(table, "journal's copies\t%d bodies are damaged in both directories: see the log for their keys\n", st.LostBodies)
	}
	for _, text := range st.Warnings {
		if !strings.HasPrefix(text, "warm tier: ") && !strings.HasPrefix(text, "journal: ") { // these have lines of their own
			fmt.Fprintf(table, "warning\t%s\n", text)
		}
	}
	for _, file := range st.Damage {
		fmt.Fprintf(table, "damaged\t%s\n", file)
	}
	return table.Flush()
}

// printNote prints why a bucket's writes are not written back.
func printNote(table io.Writer, n *buckets.Note) {
	switch {
	case n.Paused:
		fmt.Fprintf(table, "not uploaded\tpending writes of bucket %q: %s. %s\n", n.Bucket, n.Meaning, n.Remedy)
	case n.Reason != "":
		fmt.Fprintf(table, "not written back\tbucket %q: %s\n", n.Bucket, n.Meaning)
	}
	if len(n.RefusedKinds) > 0 {
		fmt.Fprintf(table, "not written back\tbucket %q, kinds of writes that the upstream has refused: %s\n", n.Bucket, strings.Join(n.RefusedKinds, ", "))
	}
}
