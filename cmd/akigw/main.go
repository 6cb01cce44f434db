// Command akigw is the command line of the gateway: it parses arguments, calls packages server and
// admin/client, and prints.
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
	Doctor   doctorCommand     `cmd:"" help:"Look for what keeps the gateway from working well, on this machine and upstream, and say what to do."`
	Cfg      configCommand     `cmd:"" name:"config" help:"The configuration: check it, explain it, print the defaults."`
	Users    usersCommand      `cmd:"" help:"Who may use the gateway, and for what."`
	Keys     keysCommand       `cmd:"" help:"Key pairs of users, and temporary credentials."`
	Rules    rulesCommand      `cmd:"" help:"Rules: how objects are treated, by bucket and key."`
	Status   statusCommand     `cmd:"" help:"What a running gateway holds, and what is not upstream yet."`
	Tier     tierCommand       `cmd:"" help:"Which tier holds what: look, move, pin."`
	Warm     warmCommand       `cmd:"" help:"Bring objects in before anybody asks for them."`
	Snapshot snapshotCommand   `cmd:"" help:"Snapshots of the catalog: Parquet files that a new gateway starts warm from."`
	Faults   faultsCommand     `cmd:"" help:"Break the way to the upstream of a running gateway on purpose, to rehearse outages."`
	Fakes3   fakes3Command     `cmd:"" name:"fakes3" help:"An S3 service for tests that fails by plan: in memory, with a history, strict if asked. It runs by itself."`
	Purge    purgeCommand      `cmd:"" help:"Forget what is cached of a key, a prefix or a bucket. Nothing upstream is touched, and nothing that is pending."`
	Dead     deadCommand       `cmd:"" name:"dead-letters" help:"Writes that could not be taken to the upstream: they are kept, and can be read."`
	Journal  journalCommand    `cmd:"" help:"The journal of acknowledged writes."`
	Pack     packCommand       `cmd:"" help:"Packs: objects of the upstream that hold many."`
	Bench    benchCommand      `cmd:"" help:"Measure an S3 endpoint: this gateway, or any other."`
	Profile  profileCommand    `cmd:"" help:"What a running gateway spends its time and memory on: a profile, and a flame graph of it."`
	Trace    traceCommand      `cmd:"" help:"What is asked for, recorded, and played against tiers of other sizes."`
	Cost     costCommand       `cmd:"" help:"What was asked for, what it cost upstream, and what was saved, by bucket."`
	Logs     logsCommand       `cmd:"" help:"The log of a running gateway: its end, and then as it goes on."`
	Audit    auditCommand      `cmd:"" help:"Who changed what on a running gateway."`
	Topics   topicsCommand     `cmd:"" help:"Short texts: modes, environment, files, keys, exit codes."`
	Help     helpCommand       `cmd:"" help:"What --help of a command says, or a topic: akigw help tier pin, akigw help modes."`
	Shell    completionCommand `cmd:"" name:"completion" help:"A script that completes akigw's commands in a shell."`
	Version  versionCommand    `cmd:"" help:"Print the version."`
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("akigw", version)
	return nil
}

func main() {
	syscall.Umask(0o077) // nothing that we create is anybody else's
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("akigw"),
		kong.Description("An S3 caching gateway: an S3 endpoint that makes another one fast.\n\nEvery setting is also a key of the configuration file and an environment variable; docs/configuration.md lists them. A flag wins over a variable, a variable over the file."),
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

// exitPending is the exit code of a gateway that ended with writes that are not upstream yet.
const exitPending = 75
