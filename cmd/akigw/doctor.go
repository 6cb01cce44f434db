package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"

	"github.com/akidb/akigw/doctor"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/server"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/facts"
)

// doctorCommand is "akigw doctor". It shares most flags with serve.
type doctorCommand struct {
	Config      string `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
	Listen      string `help:"Address of the S3 listener." placeholder:"ADDR" env:"AKIGW_LISTEN"`
	AdminListen string `help:"Address of the admin listener." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	Data        string `help:"Directory for everything the gateway stores." placeholder:"DIR" env:"AKIGW_DATA"`
	Upstream    string `help:"Endpoint of the S3 service behind the gateway." placeholder:"URL" env:"AKIGW_UPSTREAM"`
	Bucket      string `help:"Bucket in which a test object is written and deleted, to check the permissions of the upstream credentials." placeholder:"NAME"`
	JSON        bool   `name:"json" help:"Print JSON."`
}

// Run prints the findings. It returns an error if there are problems.
func (d *doctorCommand) Run() error {
	flags := map[string]string{"listen": d.Listen, "admin_listen": d.AdminListen, "data": d.Data, "upstream.url": d.Upstream}
	maps.DeleteFunc(flags, func(_, value string) bool { return value == "" })
	ctx, stop := until()
	defer stop()
	var r doctor.Report
	done := busy("checking the machine and the upstream")
	d.examine(ctx, &r, flags)
	done()
	var err error
	if d.JSON {
		err = printJSON(&r)
	} else {
		err = r.WriteText(os.Stdout)
	}
	if err != nil {
		return err
	}
	if n := r.Count(doctor.Problem); n > 0 {
		return fmt.Errorf("found %d problems", n)
	}
	return nil
}

// examine runs all checks.
func (d *doctorCommand) examine(ctx context.Context, r *doctor.Report, flags map[string]string) {
	c, err := server.Load(d.Config, os.Environ(), flags)
	var book *rules.Book
	if err == nil {
		book, err = c.OpenRules(slog.New(slog.DiscardHandler), nil)
	}
	var mistakes appconfig.Mistakes
	switch {
	case errors.As(err, &mistakes):
		for _, m := range mistakes {
			r.Add(doctor.Problem, "config", "akigw config explain KEY describes a setting; the other checks run once this is fixed", "%s", m)
		}
		return
	case err != nil:
		r.Add(doctor.Problem, "config", "akigw config print-default prints an example; the other checks run once this is fixed", "%v", err)
		return
	}
	r.Add(doctor.OK, "config", "", "%d settings are given and valid", len(c.Origins))
	if !c.HasAdminKey() {
		r.Add(doctor.Note, "admin key", makeAdminKey, "there is none: requests that change something on the admin listener require one")
	}
	(&doctor.Machine{
		Data:        c.Process.Data,
		DiskBytes:   int64(c.Cache.WarmBytes + c.Back.MaxPendingBytes + c.Snapshot.MaxBytes),
		MemoryBytes: c.MostMemory(),
		Files:       c.Gateway.MaxConnections + c.Storage.Pool.PoolSize,
		Listen:      c.Gateway.Listen, AdminListen: c.Admin.Listen,
		TLSCert: c.Gateway.TLSCert, TLSKey: c.Gateway.TLSKey,
		Journal: c.Back.Place(c.Process.Data), SecondJournal: c.Back.SecondDir, MinFree: int64(c.Back.MinFreeBytes), Acknowledges: book.BacksAny(),
	}).Check(r)
	writeBack(r, c, book)
	if c.Upstream.URL == "" {
		r.Add(doctor.Note, "upstream", "--upstream URL puts the gateway in front of your S3 service", "none is configured: the embedded one is for trials only")
	} else {
		d.upstream(ctx, r, c, "upstream", c.Upstream)
	}
	for i := range c.Further {
		d.upstream(ctx, r, c, fmt.Sprintf("upstreams[%d]", i+1), c.Further[i].Config)
	}
	if c.Vectors.Enabled() && c.Upstream.URL != "" {
		vectorBucket(ctx, r, c)
	}
}

// maxDoctorNotes bounds the number of buckets that are reported.
const maxDoctorNotes = 20

// writeBack reports buckets for which the gateway has found that it cannot honour a rule
// write = "back". It reads the gateway's saved facts and sends no request.
func writeBack(r *doctor.Report, c *server.Config, book *rules.Book) {
	const check = "write-back"
	if !book.BacksAny() {
		return
	}
	kept, err := facts.Read(c.FactsFile())
	if err != nil {
		r.Add(doctor.Note, check, "nothing to do: the next start sets the file aside and asks the upstream again", "%s: %v", c.FactsFile(), err)
		return
	}
	reported := 0
	for i := range kept {
		n := buckets.NoteOf(&kept[i])
		if n == nil || !book.Backs(n.Bucket) {
			continue
		}
		if reported++; reported > maxDoctorNotes {
			continue
		}
		remedy := "if this is intended, set write = \"through\" in its rule"
		if resume := buckets.Remedy(n.Bucket, kept[i].Why()); resume != "" {
			remedy = "akigw status shows whether acknowledged writes to it are held back. If so: " + resume
		}
		if n.Reason != "" {
			r.Add(doctor.Warning, check, remedy, "a rule says write = \"back\", but writes to bucket %q are written through: %s", n.Bucket, n.Meaning)
		}
		if len(n.RefusedKinds) > 0 {
			r.Add(doctor.Note, check, "akigw journal resume "+n.Bucket+" --forget retries them", "writes to bucket %q of kinds that the upstream has refused are written through: %s", n.Bucket, strings.Join(n.RefusedKinds, ", "))
		}
	}
	switch {
	case reported > maxDoctorNotes:
		r.Add(doctor.Warning, check, "akigw status", "the same holds for %d more buckets", reported-maxDoctorNotes)
	case reported == 0 && len(kept) > 0:
		r.Add(doctor.OK, check, "", "no known bucket prevents write-back")
	}
}

// upstream checks one upstream.
func (d *doctorCommand) upstream(ctx context.Context, r *doctor.Report, c *server.Config, name string, one cold.Config) {
	one.Retries = 0 // a check reports the first response
	client, err := cold.New(one, c.Storage.Pool, nil)
	if err != nil {
		r.Add(doctor.Problem, "upstream", "", "%v", err)
		return
	}
	defer client.Close() // closes idle connections
	(&doctor.Upstream{Client: client, Config: one, Name: name, Bucket: d.Bucket, MD5ETags: c.Cache.MD5ETags, Trailing: one.TrailingChecksums}).Check(ctx, r)
}
