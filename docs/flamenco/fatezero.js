// FateZero shots on a Flamenco 3 farm: each job file that the add-on's Send to Farm has written becomes one task.
//
// Copy this file into the Manager's `scripts` folder, and name the engine's Python for each platform in
// flamenco-manager.yaml:
//
//   variables:
//     fatezeroPython:
//       values:
//         - platform: linux
//           value: /opt/fatezero/bin/python
//         - platform: windows
//           value: C:\fatezero\Scripts\python.exe

const JOB_TYPE = {
    label: "FateZero Edit",
    description: "Edit shots of the Video Sequencer by their prompts, a task each",
    settings: [
        {
            key: "job_files", type: "string", required: true,
            description: "Job files (JOB.json) on the farm's shared storage, parted by semicolons",
        },
        {
            key: "device", type: "string", default: "auto", choices: ["auto", "cuda", "mps", "cpu"],
            description: "What workers compute on",
        },
        {
            key: "python", type: "string", default: "{fatezeroPython}", visible: "hidden",
            description: "The engine's Python on the workers",
        },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const files = settings.job_files.split(";").map(file => file.trim()).filter(file => file);
    if (!files.length) {
        throw new Error("No job file is named: choose the JOB.json files that Send to Farm has written.");
    }
    for (const file of files) {
        const task = author.Task(taskName(file), "misc");
        task.addCommand(author.Command("exec", {
            exe: settings.python,
            args: ["-m", "engine", "render", file, "--device", settings.device],
        }));
        job.addTask(task);
    }
}

// The shot's folder names it: …/farm/SHOT/JOB.json.
function taskName(file) {
    const parts = file.split(/[\\/]/);
    return "edit-" + (parts.length > 1 ? parts[parts.length - 2] : parts[0]);
}
