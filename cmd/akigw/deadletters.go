package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/writeback"
)

// deadCommand is "akigw dead-letters".
type deadCommand struct {
	List    deadList    `cmd:"" help:"List dead letters."`
	Show    deadShow    `cmd:"" help:"Print one dead letter."`
	Retry   deadRetry   `cmd:"" help:"Try to upload dead letters again."`
	Export  deadExport  `cmd:"" help:"Write the body of a dead letter to a file."`
	Archive deadArchive `cmd:"" help:"Write the bodies of all dead letters into one upstream object, a pack; see akigw pack."`
	Drop    deadDrop    `cmd:"" help:"Discard dead letters permanently: from then on, reads of their keys return the upstream's objects."`
}

type deadList struct{ remote }

// Run lists the dead letters.
func (d *deadList) Run() error {
	return list(&d.remote, (*client.Client).DeadLetters, []string{"ID", "OBJECT", "SIZE", "SINCE", "REASON"}, func(l writeback.DeadLetter) []any {
		what := size.Human(l.Size)
		if l.Deleted {
			what = "deletion"
		}
		return []any{l.ID, fmt.Sprintf("%s/%q", l.Bucket, l.Key), what, l.Since.Format(time.DateTime), l.Reason}
	})
}

type deadShow struct {
	remote
	ID uint64 `arg:"" help:"Number of the dead letter."`
}

// Run prints a dead letter.
func (d *deadShow) Run() error {
	all, err := ask(&d.remote, (*client.Client).DeadLetters)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.ID == d.ID {
			return printJSON(l)
		}
	}
	return writeback.ErrNoDeadLetter
}

// chosen selects the dead letters that a command applies to.
type chosen struct {
	ID  []uint64 `arg:"" optional:"" help:"Numbers of the dead letters."`
	All bool     `help:"Select all dead letters."`
}

// each calls do for each selected dead letter.
func (c *chosen) each(r *remote, do func(*client.Client, context.Context, uint64) error, done string) error {
	ids := c.ID
	if c.All == (len(ids) > 0) {
		return errors.New("give the numbers of dead letters, or --all")
	}
	gateway, err := r.gateway()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if c.All {
		all, err := gateway.DeadLetters(ctx)
		if err != nil {
			return err
		}
		for _, l := range all {
			ids = append(ids, l.ID)
		}
	}
	for _, id := range ids {
		if err := do(gateway, ctx, id); err != nil {
			return fmt.Errorf("dead letter %d: %w", id, err)
		}
		fmt.Printf("%s dead letter %d\n", done, id)
	}
	return nil
}

type deadRetry struct {
	remote
	chosen
}

// Run queues dead letters for upload again.
func (d *deadRetry) Run() error {
	return d.each(&d.remote, (*client.Client).RetryDeadLetter, "trying again:")
}

type deadDrop struct {
	remote
	chosen
}

// Run discards dead letters.
func (d *deadDrop) Run() error {
	return d.each(&d.remote, (*client.Client).DropDeadLetter, "dropped")
}

type deadExport struct {
	remote
	ID uint64 `arg:"" help:"Number of the dead letter."`
	To string `arg:"" help:"File to write, which must not exist; - for standard output." placeholder:"FILE"`
}

// Run writes the body of a dead letter.
func (d *deadExport) Run() error {
	body, err := ask(&d.remote, func(c *client.Client, ctx context.Context) (io.ReadCloser, error) {
		return c.ExportDeadLetter(ctx, d.ID)
	})
	if err != nil {
		return err
	}
	defer body.Close()
	return writeNew(d.To, body)
}

type deadArchive struct {
	remote
	To string `arg:"" help:"Object to write; an existing one is replaced." placeholder:"s3://BUCKET/KEY"`
}

// Run archives all dead letters in one object.
func (d *deadArchive) Run() error {
	bucket, key, err := s3URL(d.To)
	if err != nil || key == "" {
		return fmt.Errorf("%s is not of the form s3://BUCKET/KEY", d.To)
	}
	archived, err := ask(&d.remote, func(c *client.Client, ctx context.Context) (int, error) {
		return c.ArchiveDeadLetters(ctx, bucket, key)
	})
	if err != nil {
		return err
	}
	fmt.Printf("archived %d dead letters in %s; they are also kept here\n", archived, d.To)
	return nil
}
