package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/placement"
)

// tierCommand is "akigw tier".
type tierCommand struct {
	Status  tierStatus  `cmd:"" help:"Where an object is, or the objects of a prefix or a bucket; without a name, how full the tiers are and what the worker does."`
	List    tierList    `cmd:"" name:"ls" help:"List objects that are known, and where they are."`
	Top     tierTop     `cmd:"" help:"Sums of what is known by bucket, or of a bucket by the next part of its keys; the largest first."`
	Promote tierPromote `cmd:"" help:"Bring objects onto disk or into memory."`
	Demote  tierDemote  `cmd:"" help:"Take objects out of memory, or off the disk as well."`
	Pin     tierPin     `cmd:"" help:"Keep objects on disk, or in memory as well, now and later, whatever else comes."`
	Unpin   tierUnpin   `cmd:"" help:"End a pin."`
	Pins    tierPins    `cmd:"" help:"List the pins."`
}

// objects are what a command is for.
type objects struct {
	What    string `arg:"" help:"s3://BUCKET/PREFIX is every key that begins with PREFIX." placeholder:"s3://BUCKET[/PREFIX]"`
	Exactly bool   `help:"Only the key that is named."`
}

// query names them to the admin listener.
func (o *objects) query() (url.Values, error) {
	bucket, prefix, err := s3URL(o.What)
	if err != nil {
		return nil, err
	}
	if !o.Exactly {
		return url.Values{"bucket": {bucket}, "prefix": {prefix}}, nil
	}
	if prefix == "" {
		return nil, fmt.Errorf("%s names no key", o.What)
	}
	return url.Values{"bucket": {bucket}, "key": {prefix}}, nil
}

type tierStatus struct {
	remote
	What    string `arg:"" optional:"" help:"s3://BUCKET/PREFIX is every key that begins with PREFIX." placeholder:"s3://BUCKET[/PREFIX]"`
	Exactly bool   `help:"Only the key that is named."`
}

// Run prints where objects are.
func (t *tierStatus) Run() error {
	if t.What == "" {
		return t.all()
	}
	query, err := (&objects{t.What, t.Exactly}).query()
	if err != nil {
		return err
	}
	if t.Exactly {
		var o admin.Object
		if err := t.into(&o, http.MethodGet, "/api/v1/tier", query); err != nil {
			return err
		}
		return printJSON(o)
	}
	var st placement.State
	if err := t.into(&st, http.MethodGet, "/api/v1/tier", query); err != nil {
		return err
	}
	if t.JSON {
		return printJSON(st)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "known objects\t%d (%s)\n", st.Objects, size.Human(st.Bytes))
	fmt.Fprintf(w, "whole in memory\t%d (%s of all are in memory)\n", st.Hot, size.Human(st.HotBytes))
	fmt.Fprintf(w, "else whole on disk\t%d (%s of all are on disk)\n", st.Warm, size.Human(st.WarmBytes))
	fmt.Fprintf(w, "else upstream\t%d\n", st.Cold)
	fmt.Fprintf(w, "pinned\t%d\n", st.Pinned)
	fmt.Fprintf(w, "last used\t%s\n", when(st.LastAccess))
	return w.Flush()
}

// all prints how full the tiers are.
func (t *tierStatus) all() error {
	var m admin.TierMetrics
	if err := t.into(&m, http.MethodGet, "/api/v1/metrics/tiers", nil); err != nil {
		return err
	}
	if t.JSON {
		return printJSON(m)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "hot tier\t%s of %s, %s pinned\n", size.Human(m.HotBytes), size.Human(m.HotQuota), size.Human(m.HotPinned))
	fmt.Fprintf(w, "warm tier\t%s of %s, %s pinned\n", size.Human(m.WarmBytes), size.Human(m.WarmQuota), size.Human(m.WarmPinned))
	fmt.Fprintf(w, "pins by name\t%d\n", m.Pins)
	if r := m.Worker; r == nil {
		fmt.Fprintf(w, "worker\toff (tiering.policy.worker_interval_secs)\n")
	} else {
		if r.Running {
			fmt.Fprintf(w, "worker\tin cycle %d\n", r.Cycle)
		}
		fmt.Fprintf(w, "last whole cycle\t%s", when(r.Ended))
		if !r.Ended.IsZero() {
			fmt.Fprintf(w, ", %.1f s: %d objects (%s), %d hot, %d warm, %d cold, %d pinned; %d promoted, %d demoted, %d not possible", r.Seconds, r.Objects, size.Human(r.Bytes), r.Hot, r.Warm, r.Cold, r.Pinned, r.Promoted, r.Demoted, r.Failed)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// when is a time as people write it.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

type tierList struct {
	remote
	objects
	Limit int `help:"Most objects that are listed." default:"1000"`
}

// Run lists objects.
func (t *tierList) Run() error {
	query, err := t.query()
	if err != nil {
		return err
	}
	all := []admin.Object{}
	for len(all) < t.Limit {
		var page admin.Page
		query.Set("limit", strconv.Itoa(min(t.Limit-len(all), 1000)))
		if err := t.into(&page, http.MethodGet, "/api/v1/tier/objects", query); err != nil {
			return err
		}
		all = append(all, page.Objects...)
		if page.Next == "" {
			break
		}
		query.Set("after", page.Next)
	}
	if t.JSON {
		return printJSON(all)
	}
	return table([]string{"TIER", "SIZE", "IN MEMORY", "ON DISK", "PINNED", "LAST USED", "READS", "OBJECT"}, all, func(o admin.Object) []any {
		pinned := ""
		if o.Pinned {
			pinned = "yes"
		}
		return []any{o.Tier, size.Human(o.Size), size.Human(o.HotBytes), size.Human(o.WarmBytes), pinned, when(o.LastAccess), o.Accesses, fmt.Sprintf("%s/%q", o.Bucket, o.Key)}
	})
}

// act has something done with objects, and says what came of it.
func (o *objects) act(r *remote, action placement.Action, tier, done string) error {
	query, err := o.query()
	if err != nil {
		return err
	}
	m := map[string]string{"action": string(action)}
	for name := range query {
		m[name] = query.Get(name)
	}
	if tier != "" {
		m["tier"] = tier
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var result placement.MoveResult
	if err := r.sendInto(&result, http.MethodPost, "/api/v1/tier", nil, body); err != nil {
		return err
	}
	if r.JSON {
		return printJSON(result)
	}
	if action == placement.UnpinObjects {
		fmt.Printf("%d pins ended\n", result.Moved)
		return nil
	}
	fmt.Printf("%s: %d objects (%s); %d were already\n", done, result.Moved, size.Human(result.Bytes), result.Already)
	return nil
}

type tierPromote struct {
	remote
	objects
	To string `help:"warm (disk) or hot (memory)." enum:"warm,hot" default:"hot"`
}

// Run promotes.
func (t *tierPromote) Run() error {
	if t.To == "warm" {
		return t.act(&t.remote, placement.PromoteToWarm, "", "on disk now")
	}
	return t.act(&t.remote, placement.PromoteToHot, "", "in memory now")
}

type tierDemote struct {
	remote
	objects
	To string `help:"warm (disk) or cold (upstream alone)." enum:"warm,cold" default:"warm"`
}

// Run demotes.
func (t *tierDemote) Run() error {
	if t.To == "cold" {
		return t.act(&t.remote, placement.DemoteToCold, "", "upstream alone now")
	}
	return t.act(&t.remote, placement.DemoteToWarm, "", "out of memory now")
}

type tierPin struct {
	remote
	objects
	In string `help:"warm (disk) or hot (memory as well)." enum:"warm,hot" default:"warm"`
}

// Run pins.
func (t *tierPin) Run() error {
	return t.act(&t.remote, placement.PinObjects, t.In, "pinned; brought in for it")
}

type tierUnpin struct {
	remote
	objects
}

// Run ends a pin.
func (t *tierUnpin) Run() error { return t.act(&t.remote, placement.UnpinObjects, "", "") }

type tierPins struct{ remote }

// Run lists the pins.
func (t *tierPins) Run() error {
	var pins []placement.Pin
	if err := t.into(&pins, http.MethodGet, "/api/v1/tier/pins", nil); err != nil {
		return err
	}
	if t.JSON {
		return printJSON(pins)
	}
	return table([]string{"IN", "SINCE", "WHAT"}, pins, func(p placement.Pin) []any {
		in, what := "warm", fmt.Sprintf("s3://%s/%s", p.Bucket, p.Prefix)
		if p.Hot {
			in = "hot"
		}
		if !p.Exactly {
			what += "*"
		}
		return []any{in, when(p.Since), what}
	})
}

// warmCommand is "akigw warm".
type warmCommand struct {
	remote
	What  string     `arg:"" help:"What to bring in: s3://BUCKET/PREFIX is every key that begins with PREFIX." placeholder:"s3://BUCKET[/PREFIX]"`
	To    string     `help:"warm (disk) or hot (memory)." enum:"warm,hot" default:"warm"`
	Rate  size.Bytes `help:"Most bytes a second, such as 50MiB (default: no bound)." placeholder:"SIZE"`
	After string     `help:"Begin behind this key: where an earlier one ended." placeholder:"KEY"`
}

// Run brings objects in, and tells how far it is.
func (w *warmCommand) Run() error {
	bucket, prefix, err := s3URL(w.What)
	if err != nil {
		return err
	}
	query := url.Values{"bucket": {bucket}, "prefix": {prefix}, "tier": {w.To}}
	if w.Rate > 0 {
		query.Set("rate", strconv.FormatInt(int64(w.Rate), 10))
	}
	if w.After != "" {
		query.Set("after", w.After)
	}
	body, err := w.ask(http.MethodPost, "/api/v1/warm", query)
	if err != nil {
		return err
	}
	defer body.Close()
	started, shown := time.Now(), terminal(os.Stderr)
	var p placement.PrefetchProgress
	for lines := bufio.NewScanner(body); lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return err
		}
		if shown {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%d fetched (%s, %s/s), %d were there, %d failed", p.Fetched, size.Human(p.Bytes), size.Human(int64(float64(p.Bytes)/time.Since(started).Seconds())), p.Already, p.Failed)
		}
	}
	if shown {
		fmt.Fprintln(os.Stderr)
	}
	if w.JSON {
		err = printJSON(p)
	} else {
		fmt.Printf("%d objects (%s) brought in, %d were there, %d failed\n", p.Fetched, size.Human(p.Bytes), p.Already, p.Failed)
	}
	switch {
	case !p.Done && p.Failure != "":
		return fmt.Errorf("%s; what came is kept, and --after %q goes on from there", p.Failure, p.After)
	case !p.Done:
		return fmt.Errorf("the gateway went away; what came is kept, and --after %q goes on from there", p.After)
	case p.Failed > 0:
		return errors.Join(err, fmt.Errorf("the last failure: %s", p.Failure))
	}
	return err
}

// terminal reports whether a person looks at f.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// sendInto sends a body and decodes the answer.
func (r *remote) sendInto(v any, method, path string, query url.Values, body []byte) error {
	answer, err := r.send(method, path, query, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Close()
	return json.NewDecoder(answer).Decode(v)
}
