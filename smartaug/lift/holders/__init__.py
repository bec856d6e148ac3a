"""Objects and functions of the user's that hold a pipeline, and copies of them with another one in its place.

What: presets and two-view classes (``self.transform = Preset(pipeline)``), datasets around datasets, and functions that
name a pipeline in their closure, defaults or globals (``with_transform`` of Hugging Face's datasets). Those that
reach the pipeline are copied shallowly, and no others; none of the user's is changed. A wrong choice cannot give wrong
images: what is lifted runs only on images that the pipeline itself returned (see `lift.deferred`). When: a dataset is
lifted. Cost: a walk through some attributes, and one more sample where several pipelines are found.

| file | holds |
|---|---|
| `parts` | what an object or a function of the user's holds, and which of these are looked into |
| `paths` | the way from an object to its pipeline |
| `copies` | copies of objects in which another pipeline stands for theirs |
| `functions`, `modules` | copies of functions in which a variable has another value, and of modules that they read |
| `search` | the pipelines that an object or a function can reach |
| `held` | where a dataset holds its pipeline, and what it is called in messages |
| `calling` | which of several pipelines a dataset calls for its first sample |
| `state` | whether something refers to an original that writes its own attributes, and not to its copy |
| `followed` | keeps a copy in step with what the user assigns to the original |
"""
