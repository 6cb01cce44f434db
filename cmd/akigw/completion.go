package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand is "akigw completion".
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a completion script for the shell, generated from the command definitions.
func (c *completionCommand) Run(app *kong.Kong) error {
	words := map[string][]string{} // the words that may follow a command, by the command's path
	collect(app.Model.Node, "", words)
	switch c.Shell {
	case "fish":
		return fishCompletion(words)
	case "zsh":
		fmt.Println("#compdef akigw\nautoload -U +X bashcompinit && bashcompinit")
	}
	fmt.Print("# akigw completion bash > /etc/bash_completion.d/akigw\n_akigw() {\n\tlocal path=\"\" word words\n\tfor word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n\t\tcase \"$word\" in -*) ;; *) path=\"$path $word\" ;; esac\n\tdone\n\twhile :; do\n\t\tcase \"$path\" in\n")
	for _, path := range sortedKeys(words) {
		fmt.Printf("\t\t\"%s\") words=\"%s\"; break ;;\n", path, strings.Join(words[path], " "))
	}
	fmt.Print("\t\t*) path=\"${path% *}\" ;; # an argument\n\t\tesac\n\tdone\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -F _akigw akigw\n")
	return nil
}

// collect gathers the subcommands and flags of a node and of all nodes below it.
func collect(n *kong.Node, path string, words map[string][]string) {
	for _, child := range n.Children {
		if !child.Hidden && child.Type == kong.CommandNode {
			words[path] = append(words[path], child.Name)
			collect(child, path+" "+child.Name, words)
		}
	}
	for _, f := range n.Flags {
		if !f.Hidden {
			words[path] = append(words[path], "--"+f.Name)
		}
	}
	if words[path] == nil {
		words[path] = []string{"--help"}
	}
}

func fishCompletion(words map[string][]string) error {
	fmt.Println("# akigw completion fish > ~/.config/fish/completions/akigw.fish")
	for _, path := range sortedKeys(words) {
		condition := "__fish_use_subcommand"
		if seen := strings.Fields(path); len(seen) > 0 {
			condition = "__fish_seen_subcommand_from " + strings.Join(seen, "; and __fish_seen_subcommand_from ")
		}
		for _, word := range words[path] {
			if flag, ok := strings.CutPrefix(word, "--"); ok {
				fmt.Printf("complete -c akigw -n '%s' -l %s\n", condition, flag)
			} else {
				fmt.Printf("complete -c akigw -f -n '%s' -a %s\n", condition, word)
			}
		}
	}
	return nil
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// helpCommand is "akigw help".
type helpCommand struct {
	Words []string `arg:"" optional:"" placeholder:"COMMAND" help:"A command, or a topic."`
}

// Run prints the help of a command, or a topic.
func (h *helpCommand) Run(app *kong.Kong) error {
	first := ""
	if len(h.Words) > 0 {
		first = h.Words[0]
	}
	if _, ok := topics[first]; ok && !slices.ContainsFunc(app.Model.Children, func(n *kong.Node) bool { return n.Name == first }) {
		return (&topicsCommand{first}).Run()
	}
	if first == "topics" && len(h.Words) == 2 {
		return (&topicsCommand{h.Words[1]}).Run()
	}
	ctx, err := kong.Trace(app, h.Words)
	if err = errors.Join(err, ctx.Error); err != nil {
		return fmt.Errorf("%w; akigw --help lists the commands; the topics are %s", err, strings.Join(sortedKeys(topics), ", "))
	}
	return ctx.PrintUsage(false)
}

// topicsCommand is "akigw topics": background that does not fit into the help of one command.
type topicsCommand struct {
	Topic string `arg:"" optional:"" help:"Topic to print."`
}

// topics are texts of at most one screen, by name.
var topics = map[string]string{
	"modes": `Freshness says when a cached object may be served: strict validates every hit with the upstream
	(the default), events relies on change notifications, ttl on an age limit; immutable and exclusive
	never validate. Writes go straight to the upstream (write-through) or, with write = "back" in a
	rule, to a journal on local disk and from there to the upstream (write-back).
	akigw rules explain BUCKET/KEY prints the settings of an object.
More: docs/choosing.md`,
	"environment": `Every setting is a key in the configuration file and an environment variable: cache.hot_bytes is
	AKIGW_CACHE_HOT_BYTES. Flags override variables, and variables override the file.
AKIGW_ACCESS_KEY, AKIGW_SECRET_KEY      the gateway's root key pair
AKIGW_UPSTREAM, AKIGW_UPSTREAM_*        the S3 service behind it
AKIGW_LISTEN, AKIGW_ADMIN_LISTEN        addresses
AKIGW_ADMIN_ACCESS_KEY, _SECRET_KEY     for commands that talk to a running gateway
akigw config explain lists all settings with their values and where each value comes from.`,
	"exit-codes": `0   success; serve: stopped, and every acknowledged write is upstream
	1   error, described on stderr; doctor: problems were found
	75  serve: stopped with pending writes; they are kept, and the next start uploads them`,
	"files": `In the data directory:
warm/          the disk tier: a cache; may be deleted while the gateway is stopped
journal/       acknowledged writes that are not upstream yet: never delete it
access/        users and keys, encrypted with the root secret
tiers/         pins, and the progress of the tiering worker
snapshots/     the catalog as Parquet
cost.json      counters for akigw cost
audit.jsonl    who changed what
embedded/      objects of the trial upstream
trial-keys.json  the generated key pair of a trial`,
	"keys": `The root key pair may do everything. Users are restricted by policies. Administrators may use the
	admin listener but not S3. A running gateway picks up changes within a second.
  akigw users set alice --policy alice.json      akigw keys create --user alice
  akigw users set operator --admin               akigw keys create --user operator
More: docs/access.md`,
}

// Run prints a topic, or the names of all topics.
func (t *topicsCommand) Run() error {
	text, ok := topics[t.Topic]
	switch {
	case ok:
		fmt.Println(text)
	case t.Topic == "":
		fmt.Println(strings.Join(sortedKeys(topics), "\n"))
	default:
		fmt.Fprintln(os.Stderr, "topics:", strings.Join(sortedKeys(topics), ", "))
		return fmt.Errorf("unknown topic %q", t.Topic)
	}
	return nil
}
