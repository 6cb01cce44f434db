package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/vectors/store"
)

// vectorsCommand is "akigw vectors".
type vectorsCommand struct {
	List     vectorsList     `cmd:"" name:"ls" help:"List vector collections: their tiers, sizes and what is pending."`
	Flush    vectorsFlush    `cmd:"" help:"Upload all acknowledged vectors now."`
	Sweep    vectorsSweep    `cmd:"" help:"Remove what no collection needs any more from the upstream now. The gateway does so by itself every ten minutes."`
	Takeover vectorsTakeover `cmd:"" help:"Take the collections from another gateway, which is stopped for good. What that one has acknowledged and not flushed is not taken over."`
}

// scheme begins the URL of vector collections.
const scheme = "s3vectors://"

// vectorsURL reports whether text is the URL of vector collections.
func vectorsURL(text string) bool { return strings.HasPrefix(text, scheme) }

// collectionsOf parses s3vectors://BUCKET, which is all indexes of a vector bucket, and
// s3vectors://BUCKET/INDEX.
func collectionsOf(text string) (bucket, index string, err error) {
	bucket, index, _ = strings.Cut(strings.TrimPrefix(text, scheme), "/")
	if bucket == "" || strings.Contains(index, "/") {
		return "", "", fmt.Errorf("%s is no vector collection: s3vectors://BUCKET, s3vectors://BUCKET/INDEX", text)
	}
	return bucket, index, nil
}

type vectorsList struct {
	remote
	What string `arg:"" optional:"" help:"s3vectors://BUCKET selects all indexes of a vector bucket." placeholder:"s3vectors://BUCKET[/INDEX]"`
}

// Run lists vector collections.
func (v *vectorsList) Run() error { return showVectors(&v.remote, v.What) }

// showVectors prints the collections that what selects, all for "".
func showVectors(r *remote, what string) error {
	bucket, index := "", ""
	if what != "" {
		var err error
		if bucket, index, err = collectionsOf(what); err != nil {
			return err
		}
	}
	all, err := ask(r, (*client.Client).Vectors)
	if err != nil {
		return err
	}
	all.Collections = slices.DeleteFunc(all.Collections, func(s store.Status) bool {
		return bucket != "" && s.Bucket != bucket || index != "" && s.Index != index
	})
	if what != "" && len(all.Collections) == 0 {
		return fmt.Errorf("there is no collection %s; akigw vectors ls lists all", what)
	}
	if r.JSON {
		return printJSON(all)
	}
	if err := table([]string{"COLLECTION", "TIER", "PINNED", "VECTORS", "DIMENSION", "PENDING", "OLDEST", "STORED", "SEGMENTS", "SEARCHES", "LAST USED", ""}, all.Collections, collectionColumns); err != nil {
		return err
	}
	if what == "" {
		printOwner(os.Stdout, &all)
	}
	if all.Problem != "" {
		return errors.New("vector collections need attention: " + all.Problem)
	}
	return nil
}

// collectionColumns are the columns of akigw vectors ls.
func collectionColumns(s store.Status) []any {
	vectors, oldest, note := "unknown", "", ""
	if s.Vectors >= 0 {
		vectors = fmt.Sprint(s.Vectors)
	}
	if !s.Oldest.IsZero() {
		oldest = time.Since(s.Oldest).Round(time.Second).String()
	}
	if s.Degraded != "" {
		note = "read-only: " + s.Degraded
	}
	return []any{s.Bucket + "/" + s.Index, s.Tier, s.Pinned, vectors, s.Dimension, fmt.Sprintf("%d (%s)", s.Rows, size.Human(s.Pending)), oldest, size.Human(s.Stored), s.Segments, s.Searches, when(s.LastUse), note}
}

// printOwner prints the totals, and who has the prefix.
func printOwner(w io.Writer, v *admin.Vectors) {
	t, o := &v.Totals, &v.Owner
	fmt.Fprintf(w, "\n%d collections: %d hot (%s in memory), %d warm, %d cold; %s in the upstream; %d vectors and changes pending (%s)\n",
		t.Collections, t.Hot, size.Human(t.HotBytes), t.Warm, t.Cold, size.Human(t.Stored), t.Pending, size.Human(t.PendingBytes))
	switch {
	case o.Writer == "":
		fmt.Fprintf(w, "the upstream has not confirmed who has the prefix; this gateway is %s\n", o.Gateway)
	case o.Writer == o.Gateway:
		fmt.Fprintf(w, "this gateway (%s) has the prefix since %s, epoch %d\n", o.Gateway, when(o.Since), o.Epoch)
	default:
		fmt.Fprintf(w, "gateway %s has the prefix since %s, epoch %d; this gateway is %s. akigw vectors takeover takes it from there\n", o.Writer, when(o.Since), o.Epoch, o.Gateway)
	}
}

// printVectorTotals prints the lines of akigw status.
func printVectorTotals(w io.Writer, t *store.Totals) {
	fmt.Fprintf(w, "vector collections\t%d: %d hot (%s), %d warm, %d cold; %s in the upstream\n", t.Collections, t.Hot, size.Human(t.HotBytes), t.Warm, t.Cold, size.Human(t.Stored))
	since := ""
	if !t.Oldest.IsZero() {
		since = fmt.Sprintf(", oldest for %s", time.Since(t.Oldest).Round(time.Second))
	}
	fmt.Fprintf(w, "pending vectors\t%d (%s)%s\n", t.Pending, size.Human(t.PendingBytes), since)
}

// actOnVectors performs an action on vector collections and prints the result.
func (o *objects) actOnVectors(r *remote, action placement.Action, tier, done string) error {
	bucket, index, err := collectionsOf(o.What)
	if err == nil && o.Exactly {
		err = errors.New("--exactly is for keys of objects: s3vectors://BUCKET/INDEX names one collection, s3vectors://BUCKET all of a vector bucket")
	}
	if err != nil {
		return err
	}
	moved, err := ask(r, func(c *client.Client, ctx context.Context) (admin.VectorsMoved, error) {
		return c.MoveVectors(ctx, action, bucket, index, tier)
	})
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(moved)
	}
	fmt.Printf("%s: %d collections; %d needed no change\n", cmp.Or(done, "unpinned"), moved.Moved, moved.Already)
	return nil
}

type vectorsFlush struct{ remote }

// Run uploads what is pending.
func (v *vectorsFlush) Run() error {
	stop := busy("uploading acknowledged vectors")
	flushed, err := ask(&v.remote, (*client.Client).FlushVectors)
	stop()
	if err != nil {
		return err
	}
	if v.JSON {
		return printJSON(flushed)
	}
	fmt.Printf("everything that was acknowledged before is in the upstream; %d vectors and changes have been acknowledged since\n", flushed.Pending)
	return nil
}

type vectorsSweep struct{ remote }

// Run removes garbage.
func (v *vectorsSweep) Run() error {
	stop := busy("removing what no collection needs")
	err := do(&v.remote, (*client.Client).SweepVectors)
	stop()
	if err != nil {
		return err
	}
	if v.JSON {
		return printJSON(map[string]bool{"done": true})
	}
	fmt.Println("removed what no collection needs any more; objects that the gateway does not know stay for a day")
	return nil
}

type vectorsTakeover struct{ remote }

// Run takes the prefix over.
func (v *vectorsTakeover) Run() error {
	taken, err := ask(&v.remote, (*client.Client).TakeVectors)
	if err != nil {
		return err
	}
	if v.JSON {
		return printJSON(taken)
	}
	if taken.From != "" {
		fmt.Printf("gateway %s has the prefix since %s\n", taken.From, when(taken.Since))
	}
	fmt.Println(taken.Message)
	return nil
}
