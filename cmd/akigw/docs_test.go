package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestCommandsOfTheDocs: the command line accepts every akigw command in the README, the guides and the
// files of deploy/, with its arguments.
func TestCommandsOfTheDocs(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../deploy/*/*", "../../docker-compose.yml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	pages := map[string]string{}
	for _, name := range files {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimPrefix(name, "../../")] = string(page)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"FILE", "plan.toml", "day.jsonl.gz"} { // files that commands require to exist
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := kong.New(new(cli), kong.Name("akigw"), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for name, page := range pages {
		for _, line := range commandsOf(page) {
			if line == "dev" { // the first line of the banner: the version
				continue
			}
			commands++
			if err := parses(k, line); err != nil {
				t.Errorf("%s: akigw %s: %v", name, line, err)
			}
		}
	}
	if commands < 100 {
		t.Errorf("only %d commands in %v", commands, files)
	}
}

// inProse and onALine match akigw's commands in pages.
var (
	inProse = regexp.MustCompile("`(?:\\./bin/)?akigw ([^`]+)`")
	onALine = regexp.MustCompile(`(?m)^(?: {4,}|# {2,})(?:\$ |[A-Z0-9_]+=\S+ |echo .* \| )*(?:\S*/)?akigw ([a-z][a-z0-9-]*(?: .*)?)$`)
	comment = regexp.MustCompile(`\s+#.*$|\s+>.*$`)
)

// commandsOf returns the arguments of the akigw commands in a page, without brackets, and with one line
// for each alternative separated by "|".
func commandsOf(page string) (lines []string) {
	for _, found := range append(inProse.FindAllStringSubmatch(page, -1), onALine.FindAllStringSubmatch(page, -1)...) {
		line := strings.NewReplacer("[", "", "]", "", "...", "X").Replace(comment.ReplaceAllString(found[1], ""))
		words := strings.Fields(line)
		alternatives := []string{""}
		for _, word := range words {
			var longer []string
			for _, one := range strings.Split(word, "|") {
				for _, before := range alternatives {
					longer = append(longer, strings.TrimSpace(before+" "+one))
				}
			}
			alternatives = longer
		}
		lines = append(lines, alternatives...)
	}
	return lines
}

// parses parses a command line as main does. A group of commands alone counts as a command.
func parses(k *kong.Kong, line string) error {
	words := strings.Fields(line)
	node := k.Model.Node
	for _, word := range words {
		i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		if i < 0 {
			break
		}
		node = node.Children[i]
	}
	if path := strings.TrimPrefix(node.FullPath(), "akigw "); path == line || slices.Contains(words, "--help") {
		if node == k.Model.Node {
			return errors.New("there is no such command")
		}
		return nil // the surrounding prose names the other arguments
	}
	_, err := k.Parse(words)
	return err
}
