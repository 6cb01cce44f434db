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

// parse takes the name apart.
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
	rest, ok := strings.CutPrefix(text, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%s names no bucket: s3://BUCKET, s3://BUCKET/PREFIX", text)
	}
	return bucket, key, nil
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
	fmt.Fprintf(w, "whole in memory\t%d (%s of all are in memory)\n", st.Hot, size.Human(st.HotBytes))
	fmt.Fprintf(w, "else whole on disk\t%d (%s of all are on disk)\n", st.Warm, size.Human(st.WarmBytes))
	fmt.Fprintf(w, "else upstream\t%d\n", st.Cold)
	fmt.Fprintf(w, "pinned\t%d\n", st.Pinned)
	fmt.Fprintf(w, "last used\t%s\n", when(st.LastAccess))
	return w.Flush()
}

// all prints how full the tiers are.
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

// act has something done with objects, and says what came of it.
func (o *objects) act(r *remote, action placement.Action, tier, done string) error {
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

// Run purges.
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
	fmt.Printf("forgot what was cached of %d objects\n", purged)
	return nil
}
