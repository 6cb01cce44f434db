package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/placement"
)

// tierCommand is "akigw tier".
type tierCommand struct {
	Status  tierStatus  `cmd:"" help:"Show which tiers hold an object, a prefix or a bucket; without an argument, the usage of the tiers and the state of the tiering worker."`
	List    tierList    `cmd:"" name:"ls" help:"List known objects and the tiers that hold them."`
	Top     tierTop     `cmd:"" help:"Print totals by bucket, or of one bucket by the next part of its keys, largest first."`
	Promote tierPromote `cmd:"" help:"Move objects up: to disk or into memory."`
	Demote  tierDemote  `cmd:"" help:"Move objects down: out of memory, or out of memory and off the disk."`
	Pin     tierPin     `cmd:"" help:"Keep objects on disk, or in memory as well, until they are unpinned."`
	Unpin   tierUnpin   `cmd:"" help:"End a pin."`
	Pins    tierPins    `cmd:"" help:"List the pins."`
}

// objects selects the objects that a command applies to.
type objects struct {
	What    string `arg:"" help:"s3://BUCKET/PREFIX selects every key that begins with PREFIX; s3vectors://BUCKET/INDEX a vector collection." placeholder:"s3://BUCKET[/PREFIX]"`
	Exactly bool   `help:"Select only the exact key."`
}

// parse splits the URL into bucket and prefix or key.
func (o *objects) parse() (what client.Objects, err error) {
	what.Exactly = o.Exactly
	if what.Bucket, what.Prefix, err = s3URL(o.What); err != nil {
		return what, err
	}
	if o.Exactly && what.Prefix == "" {
		return what, fmt.Errorf("%s names no key", o.What)
	}
	return what, nil
}

// s3URL parses s3://BUCKET and s3://BUCKET/KEY.
func s3URL(text string) (bucket, key string, err error) {
	if vectorsURL(text) {
		return "", "", fmt.Errorf("%s is a vector collection: of those, akigw tier knows status, promote, demote, pin and unpin, and akigw vectors the rest", text)
	}
	rest, ok := strings.CutPrefix(text, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%s names no bucket: s3://BUCKET, s3://BUCKET/PREFIX", text)
	}
	return bucket, key, nil
}

type tierStatus struct {
	remote
	What    string `arg:"" optional:"" help:"s3://BUCKET/PREFIX selects every key that begins with PREFIX; s3vectors://BUCKET/INDEX a vector collection." placeholder:"s3://BUCKET[/PREFIX]"`
	Exactly bool   `help:"Select only the exact key."`
}

// Run prints which tiers hold the objects.
func (t *tierStatus) Run() error {
	if t.What == "" {
		return t.all()
	}
	if vectorsURL(t.What) {
		return showVectors(&t.remote, t.What)
	}
	what, err := (&objects{t.What, t.Exactly}).parse()
	if err != nil {
		return err
	}
	if t.Exactly {
		o, err := ask(&t.remote, func(c *client.Client, ctx context.Context) (admin.Object, error) {
			return c.Object(ctx, what.Bucket, what.Prefix)
		})
		if err != nil {
			return err
		}
		return printJSON(o)
	}
	st, err := ask(&t.remote, func(c *client.Client, ctx context.Context) (placement.State, error) { return c.State(ctx, what) })
	if err != nil {
		return err
	}
	if t.JSON {
		return printJSON(st)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "known objects\t%d (%s)\n", st.Objects, size.Human(st.Bytes))
	fmt.Fprintf(w, "complete in memory\t%d (in memory: %s)\n", st.Hot, size.Human(st.HotBytes))
	fmt.Fprintf(w, "otherwise complete on disk\t%d (on disk: %s)\n", st.Warm, size.Human(st.WarmBytes))
	fmt.Fprintf(w, "otherwise upstream only\t%d\n", st.Cold)
	fmt.Fprintf(w, "pinned\t%d\n", st.Pinned)
	fmt.Fprintf(w, "last used\t%s\n", when(st.LastAccess))
	return w.Flush()
}

// all prints the usage of the tiers and the state of the tiering worker.
func (t *tierStatus) all() error {
	m, err := ask(&t.remote, (*client.Client).TierMetrics)
	if err != nil {
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
		fmt.Fprintf(w, "last complete cycle\t%s", when(r.Ended))
		if !r.Ended.IsZero() {
			fmt.Fprintf(w, ", %.1f s: %d objects (%s), %d hot, %d warm, %d cold, %d pinned; %d promoted, %d demoted, %d failed", r.Seconds, r.Objects, size.Human(r.Bytes), r.Hot, r.Warm, r.Cold, r.Pinned, r.Promoted, r.Demoted, r.Failed)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// when formats a time in local time.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

type tierList struct {
	remote
	objects
	Limit int `help:"Maximum number of objects to list." default:"1000"`
}

// Run lists objects.
func (t *tierList) Run() error {
	what, err := t.parse()
	if err != nil {
		return err
	}
	return list(&t.remote, func(c *client.Client, ctx context.Context) ([]admin.Object, error) {
		return c.List(ctx, what, t.Limit)
	}, []string{"TIER", "SIZE", "IN MEMORY", "ON DISK", "PINNED", "LAST USED", "READS", "OBJECT"}, func(o admin.Object) []any {
		pinned := ""
		if o.Pinned {
			pinned = "yes"
		}
		return []any{o.Tier, size.Human(o.Size), size.Human(o.HotBytes), size.Human(o.WarmBytes), pinned, when(o.LastAccess), o.Accesses, fmt.Sprintf("%s/%q", o.Bucket, o.Key)}
	})
}

// act performs an action on objects and prints the result.
func (o *objects) act(r *remote, action placement.Action, tier, done string) error {
	if vectorsURL(o.What) {
		return o.actOnVectors(r, action, tier, done)
	}
	what, err := o.parse()
	if err != nil {
		return err
	}
	result, err := ask(r, func(c *client.Client, ctx context.Context) (placement.MoveResult, error) {
		return c.Move(ctx, action, what, tier)
	})
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(result)
	}
	if action == placement.UnpinObjects {
		fmt.Printf("removed %d pins\n", result.Moved)
		return nil
	}
	fmt.Printf("%s: %d objects (%s); %d needed no change\n", done, result.Moved, size.Human(result.Bytes), result.Already)
	return nil
}

type tierPromote struct {
	remote
	objects
	To string `help:"warm (disk) or hot (memory)." enum:"warm,hot" default:"hot"`
}

// Run promotes the objects.
func (t *tierPromote) Run() error {
	if t.To == "warm" {
		return t.act(&t.remote, placement.PromoteToWarm, "", "promoted to disk")
	}
	return t.act(&t.remote, placement.PromoteToHot, "", "promoted to memory")
}

type tierDemote struct {
	remote
	objects
	To string `help:"warm (disk) or cold (upstream only)." enum:"warm,cold" default:"warm"`
}

// Run demotes the objects.
func (t *tierDemote) Run() error {
	if t.To == "cold" {
		return t.act(&t.remote, placement.DemoteToCold, "", "demoted to the upstream")
	}
	return t.act(&t.remote, placement.DemoteToWarm, "", "demoted from memory")
}

type tierPin struct {
	remote
	objects
	In string `help:"warm (disk) or hot (memory as well)." enum:"warm,hot" default:"warm"`
}

// Run pins the objects.
func (t *tierPin) Run() error {
	return t.act(&t.remote, placement.PinObjects, t.In, "pinned; fetched or moved for the pin")
}

type tierUnpin struct {
	remote
	objects
}

// Run removes a pin.
func (t *tierUnpin) Run() error { return t.act(&t.remote, placement.UnpinObjects, "", "") }

type tierPins struct{ remote }

// Run lists the pins.
func (t *tierPins) Run() error {
	return list(&t.remote, (*client.Client).Pins, []string{"IN", "SINCE", "WHAT"}, func(p placement.Pin) []any {
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

// purgeCommand is "akigw purge".
type purgeCommand struct {
	remote
	objects
}

// Run drops cached objects.
func (p *purgeCommand) Run() error {
	what, err := p.parse()
	if err != nil {
		return err
	}
	purged, err := ask(&p.remote, func(c *client.Client, ctx context.Context) (int, error) { return c.Purge(ctx, what) })
	if err != nil {
		return err
	}
	if p.JSON {
		return printJSON(map[string]int{"purged": purged})
	}
	fmt.Printf("dropped %d objects from the cache\n", purged)
	return nil
}
