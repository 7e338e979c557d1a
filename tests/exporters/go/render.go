// Renders templates as Ollama does: Go's text/template over a table of the conversation, and the marks of thinking that
// the text round a thought shows. Reads a JSON list of conversations, writes a JSON list of results.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
	"text/template/parse"
)

type message struct {
	Role, Content, Thinking string
}

type conversation struct {
	Template   string
	Messages   []*message
	Think      bool
	IsThinkSet bool
}

type result struct {
	Text  string   `json:"text"`
	Error string   `json:"error"`
	Marks []string `json:"marks"`
}

func render(asked conversation) (made result) {
	compiled, err := template.New("").Parse(asked.Template)
	if err != nil {
		return result{Error: "parsing: " + err.Error()}
	}
	var rules []string
	for _, said := range asked.Messages {
		if said.Role == "system" {
			rules = append(rules, said.Content)
		}
	}
	var text strings.Builder
	err = compiled.Execute(&text, map[string]any{"System": strings.Join(rules, "\n\n"), "Messages": asked.Messages,
		"Tools": nil, "Response": "", "Think": asked.Think, "ThinkLevel": "", "IsThinkSet": asked.IsThinkSet})
	if err != nil {
		made.Error = err.Error()
	}
	made.Text, made.Marks = text.String(), []string{"", ""}
	marks(compiled.Root, nil, false, &made)
	return made
}

// marks walks through what a template consists of; a thought inside the range of messages shows its marks at both ends
// of the list that it stands in.
func marks(node parse.Node, list *parse.ListNode, inside bool, made *result) {
	branch := func(one *parse.BranchNode, inside bool) {
		marks(one.Pipe, list, inside, made)
		marks(one.List, list, inside, made)
		if one.ElseList != nil {
			marks(one.ElseList, list, inside, made)
		}
	}
	switch one := node.(type) {
	case *parse.ListNode:
		for _, inner := range one.Nodes {
			marks(inner, one, inside, made)
		}
	case *parse.ActionNode:
		marks(one.Pipe, list, inside, made)
	case *parse.TemplateNode:
		marks(one.Pipe, list, inside, made)
	case *parse.IfNode:
		branch(&one.BranchNode, inside)
	case *parse.RangeNode:
		branch(&one.BranchNode, inside || strings.Contains(one.Pipe.String(), ".Messages"))
	case *parse.PipeNode:
		for _, command := range one.Cmds {
			for _, word := range command.Args {
				marks(word, list, inside, made)
			}
		}
	case *parse.FieldNode:
		if inside && one.Ident[0] == "Thinking" {
			for place, end := range []parse.Node{list.Nodes[0], list.Nodes[len(list.Nodes)-1]} {
				if text, found := end.(*parse.TextNode); found {
					made.Marks[place] = strings.TrimSpace(text.String())
				}
			}
		}
	}
}

func main() {
	var asked []conversation
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	made := []result{}
	for _, one := range asked {
		made = append(made, render(one))
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	if err := out.Encode(made); err != nil {
		panic(err)
	}
}
