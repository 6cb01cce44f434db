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
	Create snapshotCreate `cmd:"" help:"Create a snapshot now."`
	List   snapshotList   `cmd:"" help:"List snapshots, newest first."`
	Show   snapshotShow   `cmd:"" help:"Print a snapshot's metadata, after verifying its digest."`
	Verify snapshotVerify `cmd:"" help:"Verify the digests of all snapshots, or of one."`
	Diff   snapshotDiff   `cmd:"" help:"Print the differences between two snapshots."`
	Delete snapshotDelete `cmd:"" help:"Delete a snapshot. The last valid one is kept unless --force is given."`
}

type snapshotCreate struct{ remote }

// Run creates a snapshot.
func (s *snapshotCreate) Run() error {
	i, err := ask(&s.remote, (*client.Client).CreateSnapshot)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(i)
	}
	fmt.Printf("created snapshot %s (%s)\n", i.ID, size.Human(i.Bytes))
	return nil
}

type snapshotList struct{ remote }

// Run lists the snapshots.
func (s *snapshotList) Run() error {
	return list(&s.remote, (*client.Client).Snapshots, []string{"ID", "SIZE", "MADE", "FILE"}, func(i snapshot.Info) []any {
		return []any{i.ID, size.Human(i.Bytes), when(i.Created), i.File}
	})
}

// details requests the metadata of a snapshot.
func (r *remote) details(id string) (snapshot.Details, error) {
	return ask(r, func(c *client.Client, ctx context.Context) (snapshot.Details, error) { return c.Snapshot(ctx, id) })
}

type snapshotShow struct {
	remote
	ID string `arg:"" help:"Snapshot ID, or latest." default:"latest"`
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
	fmt.Fprintf(w, "id\t%s\ncreated\t%s\nby gateway\t%s\nobjects\t%d\nsize\t%s in %d row groups\nschema\t%d\nfile\t%s\n", d.ID, when(d.Created), d.Gateway, d.Rows, size.Human(d.Bytes), d.RowGroups, d.Schema, d.File)
	return w.Flush()
}

type snapshotVerify struct {
	remote
	ID string `arg:"" optional:"" help:"Snapshot ID (default: all snapshots)."`
}

// Run verifies one snapshot, or all.
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
		fmt.Printf("%s: valid, %d objects\n", d.ID, d.Rows)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d snapshots are invalid", bad, len(ids))
	}
	return nil
}

type snapshotDiff struct {
	remote
	From string `arg:"" help:"ID of the earlier snapshot."`
	To   string `arg:"" help:"ID of the later snapshot, or latest." default:"latest"`
}

// Run prints the differences, as lines of JSON or as text.
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
		fmt.Println("no differences")
	}
	return err
}

type snapshotDelete struct {
	remote
	ID    string `arg:"" help:"Snapshot ID."`
	Force bool   `help:"Delete even the last valid snapshot."`
}

// Run deletes a snapshot.
func (s *snapshotDelete) Run() error {
	err := do(&s.remote, func(c *client.Client, ctx context.Context) error { return c.DeleteSnapshot(ctx, s.ID, s.Force) })
	if err != nil {
		return err
	}
	fmt.Printf("deleted snapshot %s\n", s.ID)
	return nil
}
