// Command akigw is the command line of the gateway. It parses arguments, calls packages server and
// admin/client, and prints the results.
package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/akidb/akigw/server"
)

// version is set by the linker (see Makefile).
var version = "dev"

type cli struct {
	Serve    serveCommand      `cmd:"" help:"Run the gateway."`
	Doctor   doctorCommand     `cmd:"" help:"Check this machine, the configuration and the upstream for problems, and print how to fix them."`
	Cfg      configCommand     `cmd:"" name:"config" help:"Check and explain the configuration, and print the defaults."`
	Users    usersCommand      `cmd:"" help:"Manage users and their policies."`
	Keys     keysCommand       `cmd:"" help:"Manage key pairs and temporary credentials."`
	Rules    rulesCommand      `cmd:"" help:"Explain the rules: settings by bucket and key."`
	Status   statusCommand     `cmd:"" help:"Show what a running gateway holds and what is not upstream yet."`
	Tier     tierCommand       `cmd:"" help:"Show, move and pin objects in the tiers."`
	Vectors  vectorsCommand    `cmd:"" help:"Show vector collections, upload what is pending, and take them over from another gateway."`
	Warm     warmCommand       `cmd:"" help:"Prefetch objects into the cache."`
	Snapshot snapshotCommand   `cmd:"" help:"Manage snapshots of the catalog: Parquet files from which a new gateway starts warm."`
	Faults   faultsCommand     `cmd:"" help:"Inject faults into a running gateway's upstream and disk, to rehearse outages."`
	Fakes3   fakes3Command     `cmd:"" name:"fakes3" help:"Run a stand-alone S3 service for tests: in memory, with fault plans, a request history and strict checks."`
	Purge    purgeCommand      `cmd:"" help:"Drop cached objects of a key, a prefix or a bucket. The upstream and pending writes are not affected."`
	Dead     deadCommand       `cmd:"" name:"dead-letters" help:"Manage dead letters: writes that the upstream refused for good. They are kept and can be read."`
	Journal  journalCommand    `cmd:"" help:"Manage the journal of acknowledged writes."`
	Pack     packCommand       `cmd:"" help:"List and extract packs: upstream objects that each hold many small objects."`
	Bench    benchCommand      `cmd:"" help:"Benchmark an S3 endpoint: this gateway or any other."`
	Profile  profileCommand    `cmd:"" help:"Profile a running gateway and draw a flame graph."`
	Trace    traceCommand      `cmd:"" help:"Record accesses and replay them against tiers of other sizes."`
	Compare  compareCommand    `cmd:"" help:"Show where answers from the cache differed from the upstream's."`
	Shadow   shadowCommand     `cmd:"" help:"Show what the cache would save, before it serves anything."`
	Advise   adviseCommand     `cmd:"" help:"Propose settings for a running gateway: sizes, freshness, pins and write-back, with reasons."`
	Cost     costCommand       `cmd:"" help:"Show requests, upstream cost and savings by bucket."`
	Logs     logsCommand       `cmd:"" help:"Print the end of a running gateway's log and follow it."`
	Audit    auditCommand      `cmd:"" help:"Show who changed what on a running gateway."`
	Topics   topicsCommand     `cmd:"" help:"Print short texts about modes, environment, files, keys and exit codes."`
	Help     helpCommand       `cmd:"" help:"Print the help of a command, or a topic: akigw help tier pin, akigw help modes."`
	Shell    completionCommand `cmd:"" name:"completion" help:"Print a shell completion script."`
	Version  versionCommand    `cmd:"" help:"Print the version."`
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("akigw", version)
	return nil
}

func main() {
	syscall.Umask(0o077) // only our user may access the files that we create
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("akigw"),
		kong.Description("An S3 caching gateway: an S3 endpoint that caches and accelerates another one.\n\nEvery setting is also a key in the configuration file and an environment variable; docs/configuration.md lists them. Flags override variables, and variables override the file."),
		kong.UsageOnError(),
	)
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "akigw:", err)
		if errors.Is(err, server.ErrPending) {
			os.Exit(exitPending)
		}
		os.Exit(1)
	}
}

// exitPending is the exit code of a gateway that stopped with pending writes (EX_TEMPFAIL).
const exitPending = 75
