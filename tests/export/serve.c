/* What TF Serving does with a folder, through TensorFlow's C API: load it, feed strings, fetch numbers. No Python, no kbert.

   serve FOLDER INPUT OUTPUT INDEX OPS... < texts, one a line
   INPUT and OUTPUT are operations of the graph, OPS the libraries of tensorflow-text's operations. Prints a line of numbers for each text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

enum { MOST_TEXTS = 256, LONGEST = 1 << 16 };

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static void leave(void* data, size_t length, void* argument) { (void)data, (void)length, (void)argument; }

int main(int count, char** given) {
  if (count < 5) return 2;
  TF_Status* status = TF_NewStatus();
  for (int n = 5; n < count; ++n) {
    TF_LoadLibrary(given[n], status);
    check(status, given[n]);
  }
  const char* tags[] = {"serve"};
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, given[1], tags, 1, graph, NULL, status);
  check(status, "load");

  static TF_TString texts[MOST_TEXTS];
  static char line[LONGEST];
  int64_t rows = 0;
  while (rows < MOST_TEXTS && fgets(line, sizeof line, stdin)) {
    TF_TString_Init(&texts[rows]);
    TF_TString_Copy(&texts[rows++], line, strcspn(line, "\n"));
  }
  TF_Tensor* in = TF_NewTensor(TF_STRING, &rows, 1, texts, rows * sizeof(TF_TString), leave, NULL);
  TF_Output input = {TF_GraphOperationByName(graph, given[2]), 0};
  TF_Output output = {TF_GraphOperationByName(graph, given[3]), atoi(given[4])};
  if (!input.oper || !output.oper) {
    fprintf(stderr, "the graph has no %s\n", input.oper ? given[3] : given[2]);
    return 1;
  }
  TF_Tensor* out = NULL;
  TF_SessionRun(session, NULL, &input, &in, 1, &output, &out, 1, NULL, 0, NULL, status);
  check(status, "run");
  const float* values = TF_TensorData(out);
  for (int64_t row = 0; row < TF_Dim(out, 0); ++row) {
    for (int64_t n = 0; n < TF_Dim(out, 1); ++n) printf("%.9g ", values[row * TF_Dim(out, 1) + n]);
    printf("\n");
  }
  return 0;
}
