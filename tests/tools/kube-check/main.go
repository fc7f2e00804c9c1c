// Command kube-check reads Kubernetes documents on standard input and decodes each strictly into the types of Kubernetes and of
// the Prometheus operator: a field that they do not have, one that is there twice, or one of another type is an error. It also
// holds names, labels and ports to what the API server demands of them. Prints a line for each document.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kube-check:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, autoscaling.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme,
		monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	var wrong []error
	count := 0
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if isEmpty(text) {
			continue
		}
		count++
		object, kind, err := decoder.Decode(text, nil, nil)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("document %d: %w", count, err))
			continue
		}
		accessor, err := meta.Accessor(object)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s/%s %s", kind.GroupVersion(), kind.Kind, accessor.GetName())
		problems := problems(object, accessor.GetName(), accessor.GetLabels())
		for _, problem := range problems {
			wrong = append(wrong, fmt.Errorf("%s: %s", name, problem))
		}
		if len(problems) == 0 {
			fmt.Fprintln(out, "ok", name)
		}
	}
	if count == 0 {
		return errors.New("no documents on standard input")
	}
	return errors.Join(wrong...)
}

// isEmpty says whether a document holds comments and blank lines only, as templates leave them.
func isEmpty(text []byte) bool {
	var any any
	return yaml.Unmarshal(text, &any) == nil && any == nil
}

// problems are those of names, labels and ports, which the types leave open.
func problems(object runtime.Object, name string, labels map[string]string) []string {
	found := validation.IsDNS1123Label(name)
	found = append(found, ofLabels(labels)...)
	switch object := object.(type) {
	case *apps.StatefulSet:
		template := object.Spec.Template
		found = append(found, ofLabels(template.Labels)...)
		for key, value := range object.Spec.Selector.MatchLabels {
			if template.Labels[key] != value {
				found = append(found, "its selector does not choose its own pods: "+key)
			}
		}
		for _, container := range append(template.Spec.InitContainers, template.Spec.Containers...) {
			found = append(found, ofContainer(container, template.Spec.Volumes, object.Spec.VolumeClaimTemplates)...)
		}
	case *core.Service:
		for _, port := range object.Spec.Ports {
			found = append(found, validation.IsValidPortNum(int(port.Port))...)
			found = append(found, validation.IsValidPortName(port.Name)...)
		}
	}
	return found
}

func ofLabels(labels map[string]string) []string {
	var found []string
	for key, value := range labels {
		found = append(found, validation.IsQualifiedName(key)...)
		found = append(found, validation.IsValidLabelValue(value)...)
	}
	return found
}

func ofContainer(container core.Container, volumes []core.Volume, claims []core.PersistentVolumeClaim) []string {
	found := validation.IsDNS1123Label(container.Name)
	for _, port := range container.Ports {
		found = append(found, validation.IsValidPortName(port.Name)...)
	}
	for _, variable := range container.Env {
		found = append(found, validation.IsEnvVarName(variable.Name)...)
	}
	known := map[string]bool{}
	for _, volume := range volumes {
		known[volume.Name] = true
	}
	for _, claim := range claims {
		known[claim.Name] = true
	}
	for _, mount := range container.VolumeMounts {
		if !known[mount.Name] {
			found = append(found, "mounts a volume that is not there: "+mount.Name)
		}
	}
	return found
}
