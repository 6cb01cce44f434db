package tiers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// TestRunsWithoutTheTier: an epoch that does not use the warm tier, because there is no room or it
// is switched off, changes objects. The next epoch does not serve their old versions from the tier.
//
// Scenarios: C3.
func TestRunsWithoutTheTier(t *testing.T) {
	for name, without := range map[string]func(*testkit.SmallDisk, *Config){
		"no room":      func(d *testkit.SmallDisk, _ *Config) { d.Fill(0) },
		"switched off": func(_ *testkit.SmallDisk, c *Config) { c.WarmBytes = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			disk := testkit.NewSmallDisk(t, 128<<20, 0)
			dir, up := filepath.Join(disk.Dir, "warm"), s3mem.New()
			config := testConfig(rules.Exclusive)
			older, newer := testkit.Bytes(1, 100), testkit.Bytes(2, 100)
			up.Put(key("k"), older)
			s := openStore(t, config, dir, up)
			wantRead(t, s, key("k"), "", older, akigw.Cold)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			if err := os.Truncate(filepath.Join(dir, "BALLAST"), 0); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			off := config
			without(disk, &off)
			s = openStore(t, off, dir, up)
			if wanted := off.WarmBytes > 0; wanted != (s.WarmProblem() != "") || wanted != (len(s.Warnings()) == 1 && strings.Contains(s.Warnings()[0], dir)) {
				t.Errorf("%q, %q", s.WarmProblem(), s.Warnings())
			}
			wantRead(t, s, key("k"), "", older, akigw.Cold)
			w := s.Begin(key("k"))
			up.Put(key("k"), newer)
			w.End()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			disk.Empty()
			s = openStore(t, config, dir, up)
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if problem := s.WarmProblem(); problem != "" {
				t.Error(problem)
			}
			if got, _, err := readAll(s, key("k"), ""); err != nil || string(got) != string(newer) {
				t.Errorf("a version that was replaced meanwhile is served: %v", err)
			}
		})
	}
}
