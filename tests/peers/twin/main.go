// The seed's twin: the engine that wgengine answers to, driven by lines of JSON.
//
// One JSON value in, one out: a command or a list of commands; an answer or a list of answers. What the engine did to
// its router, its DNS configurator, BIRD and the WireGuard device comes with the answer to the command that made it.
// A command that makes no sense is answered with a "fault"; what the engine itself refuses, with an "error".
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"tailscale.com/envknob"
)

type answer struct {
	Value any    `json:"value,omitempty"`
	Calls []call `json:"calls,omitempty"`
	Error string `json:"error,omitempty"`
	Fault string `json:"fault,omitempty"`
}

func main() {
	envknob.SetNoLogsNoSupport() // flow logs would be sent to a server on the internet
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "twin:", err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	lines, written := json.NewDecoder(bufio.NewReaderSize(in, 1<<20)), bufio.NewWriterSize(out, 1<<20)
	answers := json.NewEncoder(written)
	driver := newDriver()
	defer driver.close()
	for {
		var line json.RawMessage
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var said any
		if batch := []json.RawMessage(nil); line[0] == '[' {
			if err := json.Unmarshal(line, &batch); err != nil {
				return err
			}
			all := make([]answer, 0, len(batch))
			for _, one := range batch {
				all = append(all, driver.obey(one))
			}
			said = all
		} else {
			said = driver.obey(line)
		}
		if err := answers.Encode(said); err != nil {
			return err
		}
		if err := written.Flush(); err != nil {
			return err
		}
	}
}

// strictly decodes JSON and refuses a field that it does not know: a misspelt one would go by in silence.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
