package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/snapshot"
)

// snapshotCommand is "akigw snapshot".
type snapshotCommand struct {
	Create snapshotCreate `cmd:"" help:"Make one now."`
	List   snapshotList   `cmd:"" help:"List them, the newest first."`
	Show   snapshotShow   `cmd:"" help:"Print what one says of itself. It is read whole and compared with its digest."`
	Verify snapshotVerify `cmd:"" help:"Read all of them, or one, and compare them with their digests."`
	Diff   snapshotDiff   `cmd:"" help:"Print what happened to objects between two."`
	Delete snapshotDelete `cmd:"" help:"Remove one. The last good one stays, unless --force says otherwise."`
}

type snapshotCreate struct{ remote }

// Run makes a snapshot.
func (s *snapshotCreate) Run() error {
	i, err := ask(&s.remote, (*client.Client).CreateSnapshot)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(i)
	}
	fmt.Printf("made snapshot %s (%s)\n", i.ID, size.Human(i.Bytes))
	return nil
}

type snapshotList struct{ remote }

// Run lists the snapshots.
func (s *snapshotList) Run() error {
	return list(&s.remote, (*client.Client).Snapshots, []string{"ID", "SIZE", "MADE", "FILE"}, func(i snapshot.Info) []any {
		return []any{i.ID, size.Human(i.Bytes), when(i.Created), i.File}
	})
}

// details asks for what a snapshot says of itself.
func (r *remote) details(id string) (snapshot.Details, error) {
	return ask(r, func(c *client.Client, ctx context.Context) (snapshot.Details, error) { return c.Snapshot(ctx, id) })
}

type snapshotShow struct {
	remote
	ID string `arg:"" help:"Its id, or latest." default:"latest"`
}

// Run prints a snapshot.
func (s *snapshotShow) Run() error {
	d, err := s.details(s.ID)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(d)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "id\t%s\nmade\t%s\nby gateway\t%s\nobjects\t%d\nsize\t%s in %d row groups\nschema\t%d\nfile\t%s\n", d.ID, when(d.Created), d.Gateway, d.Rows, size.Human(d.Bytes), d.RowGroups, d.Schema, d.File)
	return w.Flush()
}

type snapshotVerify struct {
	remote
	ID string `arg:"" optional:"" help:"Its id; without one, all."`
}

// Run verifies.
func (s *snapshotVerify) Run() error {
	ids := []string{s.ID}
	if s.ID == "" {
		all, err := ask(&s.remote, (*client.Client).Snapshots)
		if err != nil {
			return err
		}
		ids = nil
		for _, i := range all {
			ids = append(ids, i.ID)
		}
	}
	bad := 0
	for _, id := range ids {
		d, err := s.details(id)
		if err != nil {
			bad++
			fmt.Printf("%s: %s\n", id, strings.TrimSpace(err.Error()))
			continue
		}
		fmt.Printf("%s: good, %d objects\n", d.ID, d.Rows)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d snapshots are not good", bad, len(ids))
	}
	return nil
}

type snapshotDiff struct {
	remote
	From string `arg:"" help:"Id of the earlier one."`
	To   string `arg:"" help:"Id of the later one, or latest." default:"latest"`
}

// Run prints the differences, a line of JSON each, or for people.
func (s *snapshotDiff) Run() error {
	body, err := ask(&s.remote, func(c *client.Client, ctx context.Context) (io.ReadCloser, error) {
		return c.DiffSnapshots(ctx, s.From, s.To)
	})
	if err != nil {
		return err
	}
	defer body.Close()
	if s.JSON {
		_, err = io.Copy(os.Stdout, body)
		return err
	}
	changes := 0
	err = client.ReadChanges(body, func(c snapshot.Change) {
		changes++
		fmt.Printf("%-8s %s/%q", c.What, c.Bucket, c.Key)
		if c.From != "" && c.To != "" {
			fmt.Printf("  %s -> %s", c.From, c.To)
		}
		fmt.Println()
	})
	if err == nil && changes == 0 {
		fmt.Println("nothing differs")
	}
	return err
}

type snapshotDelete struct {
	remote
	ID    string `arg:"" help:"Its id."`
	Force bool   `help:"Also the last good one."`
}

// Run removes a snapshot.
func (s *snapshotDelete) Run() error {
	err := do(&s.remote, func(c *client.Client, ctx context.Context) error { return c.DeleteSnapshot(ctx, s.ID, s.Force) })
	if err != nil {
		return err
	}
	fmt.Printf("removed snapshot %s\n", s.ID)
	return nil
}
